"""Clips a second of `xclip-serve batch` against our server with 16 clients, in turns.

    python -m benchmarks.batch [--rounds 3] [--seconds 10] [--clips 60]

Both run the same B/32 bundle on the same processors, ask about ten labels, and see every clip for
the first time: the same ten seconds, another file each. Neither side's start counts: the server has
answered two clients before its load, and a rate of `batch` is that of its rows after the first two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lib.bundles import bundle_of
from benchmarks.lib.clip import WHAT, another_file, new_labels, ten_second_clip
from benchmarks.lib.load import under_load
from benchmarks.lib.server_process import ROOT, ask, our_server
from benchmarks.lib.timing import publish
from export.bundle.manifest import PrecisionName

WARM_UP = 2  # answers that do not count
VARIANT, LABELS, CLIENTS = "xclip-base-patch32", 10, 16
PRECISION: PrecisionName = "fp32"
POLL_S = 0.02


def main(arguments: Sequence[str]) -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--seconds", type=float, default=10, help="of load on the server (10)")
    parser.add_argument("--clips", type=int, default=60, help="in the folder of batch (60)")
    options = parser.parse_args(arguments)
    bundle = bundle_of(VARIANT, (PRECISION,)).path
    clip, labels = ten_second_clip(), new_labels(LABELS)
    rates: dict[str, list[float]] = {"server, 16 clients": [], "batch": []}
    with tempfile.TemporaryDirectory() as folder:
        # Both find the same runtime the fastest: the first start measures, the others recall.
        environment = {"XCLIP_CACHE": f"{folder}/cache"}
        for turn in range(options.rounds):
            rates["server, 16 clients"].append(
                _server_rate(bundle, clip, labels, options.seconds, environment)
            )
            clips = Path(folder) / f"clips{turn}"
            rates["batch"].append(
                _batch_rate(bundle, clip, labels, clips, options.clips, environment)
            )
    medians = {what: statistics.median(values) for what, values in rates.items()}
    rows: list[dict[str, Any]] = [
        {"what": what, "clips/s": medians[what], "least": min(values), "most": max(values)}
        for what, values in rates.items()
    ]
    publish(
        "batch",
        f"python -m benchmarks.batch --rounds {options.rounds} --seconds {options.seconds:g} "
        f"--clips {options.clips}",
        rows,
        variant=VARIANT,
        precision=PRECISION,
        clip=f"{WHAT}, {len(clip) / 1e6:.2f} MB, another file each",
        load_average=round(os.getloadavg()[2], 1),  # some 2 of it are ours, the rest is others'
        of_server=medians["batch"] / medians["server, 16 clients"],
    )
    return 0


def _server_rate(
    bundle: Path, clip: bytes, labels: list[str], seconds: float, environment: dict[str, str]
) -> float:
    flags = ("--max-uploads-per-client", str(CLIENTS))

    def question(client: httpx.Client) -> None:
        ask(client, another_file(clip), labels)

    with our_server(bundle, PRECISION, *flags, environment=environment) as server:
        under_load(server.url, question, clients=WARM_UP, seconds=0)
        return under_load(server.url, question, CLIENTS, seconds).clips_per_s


def _batch_rate(
    bundle: Path,
    clip: bytes,
    labels: list[str],
    folder: Path,
    count: int,
    environment: dict[str, str],
) -> float:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(another_file(clip))
    table, names = folder / "table.csv", folder / "labels.txt"
    names.write_text("\n".join(labels))
    command: list[str | Path] = [
        *(sys.executable, "-m", "xclip_serve", "batch", folder, "--labels", names),
        *("--model", bundle, "--precision", PRECISION, "--output", table),
    ]
    seen: list[float] = []  # when each row was first seen
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment) as run:
        while run.poll() is None and len(seen) < count:
            time.sleep(POLL_S)
            rows = table.read_bytes().count(b"\n") - 1 if table.exists() else 0
            seen += [time.perf_counter()] * (rows - len(seen))
    if run.returncode or len(seen) < count:
        raise RuntimeError(f"batch ended with {run.returncode} after {len(seen)} of {count} clips")
    return (count - WARM_UP) / (seen[-1] - seen[WARM_UP - 1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
