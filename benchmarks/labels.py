"""From ten to ten thousand labels about one clip that the server holds.

    python -m benchmarks.labels [--counts 10 100 1000 10000] [--rounds N]

Over HTTP, by `video_id`: first with labels never seen, then several times with the same. The time
is set against the arithmetic of the score head (multiply-accumulates); memory is the peak of the
server process since its ten labels. Goals: time grows no faster than the arithmetic, and memory by
at most 200 MB.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lib.bundles import bundle_of
from benchmarks.lib.clip import another_file, new_labels, ten_second_clip
from benchmarks.lib.server_process import ServerProcess, ask, ask_again, our_server
from benchmarks.lib.timing import publish
from model.command_line import Parser
from model.network.config import VARIANTS, ModelConfig

VARIANT, COUNTS, GOAL_MB, TIMEOUT_S = "xclip-base-patch32", (10, 100, 1000, 10_000), 200, 600


def main(arguments: Sequence[str]) -> int:
    """Measure; the exit status says whether the goals were met."""
    parser = Parser(prog="python -m benchmarks.labels", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="labels asked")
    parser.add_argument("--rounds", type=int, default=7, help="with the same labels again (7)")
    options = parser.parse_args(arguments)
    bundle, clip = bundle_of(VARIANT, ("fp32",)), ten_second_clip()
    with our_server(bundle.path, "fp32", "--request-timeout-s", str(TIMEOUT_S)) as server:
        rows = measure(server, clip, VARIANTS[VARIANT], options.counts, options.rounds)
    most = max(row["memory growth MB"] for row in rows)
    publish(
        "labels",
        f"python -m benchmarks.labels --rounds {options.rounds}",
        rows,
        variant=VARIANT,
        goal=f"time grows no faster than arithmetic, memory at most {GOAL_MB} MB",
        time_grows=rows[-1]["again_ms"] / rows[0]["again_ms"],
        arithmetic_grows=rows[-1]["gmacs"] / rows[0]["gmacs"],
        memory_growth_mb=most,
    )
    grows = [rows[-1][name] / rows[0][name] for name in ("again_ms", "gmacs")]
    return 0 if grows[0] <= grows[1] and most <= GOAL_MB else 1


def measure(
    server: ServerProcess, clip: bytes, config: ModelConfig, counts: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Measure each count of labels; return a line for each."""
    rows: list[dict[str, Any]] = []
    with httpx.Client(base_url=server.url, timeout=TIMEOUT_S) as client:
        video_id = ask(client, another_file(clip), new_labels(counts[0]))["video_id"]
        before_mb = forget_peak(server.pid)
        for count in counts:
            labels = new_labels(count)
            new_ms, _ = _timed(client, video_id, labels)
            again = [_timed(client, video_id, labels) for _ in range(rounds)]
            again_ms = statistics.median(ms for ms, _ in again)
            score_ms = statistics.median(answer["timing_ms"]["score"] for _, answer in again)
            gmacs = score_macs(config, count) / 1e9
            rows.append(
                {
                    "labels": count,
                    "new_ms": new_ms,
                    "again_ms": again_ms,
                    "score_ms": score_ms,
                    "gmacs": gmacs,
                    "score_ms_per_gmac": score_ms / gmacs,
                    "memory growth MB": round(peak_mb(server.pid) - before_mb, 1),
                }
            )
    return rows


def _timed(client: httpx.Client, video_id: str, labels: Sequence[str]) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = ask_again(client, video_id, labels)
    return 1e3 * (time.perf_counter() - began), answer


def forget_peak(pid: int) -> float:
    """Count what the process has now as its peak from here on (Linux), and return it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_mb(pid)


def peak_mb(pid: int) -> float:
    """Return the most memory that the process had since then."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def score_macs(c: ModelConfig, labels: int) -> float:
    """Count those of the score head on one clip: keys and values once, the rest per label."""
    e, p = c.embed_dim, c.num_patches
    per_label = 2 * e * e + 2 * p * e + 8 * e * e  # query and output, attention, MLP
    return c.prompt_layers * (labels * per_label + 2 * p * e * e) + labels * e


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
