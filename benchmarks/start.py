"""From nothing to ready, and the memory of one and of two processes.

    python -m benchmarks.start [--rounds N] [--open-clip [NAME …]]

Ours is `python -m service` until `/readyz` says 200 (which runs a small inference through decode
workers and network). The peer imports transformers, loads the same network from a folder of
`save_pretrained`, and answers about one clip. For networks of open_clip (CLIP B/16, PE-Core-B) the
peer is open_clip itself, in the same way. Files are in the page cache for both. Memory is the
proportional set size of the process and its decode workers: pages that two processes share count
half in each. "packed": ONNX Runtime with packed weights kept in a folder, which is what servers of
one machine share; the others run on the runtime that is the fastest here, which is seldom the one
that opens first or holds least. Goal: at most a third of the peer's time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lib.bundles import bundle_of, missing_from
from benchmarks.lib.clip import ten_second_clip
from benchmarks.lib.open_clip_networks import NETWORKS, folder_of, open_clip_bundle
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.server_process import MIB, ROOT, our_server
from benchmarks.lib.timing import as_row, publish, timing_of
from export.bundle.manifest import PrecisionName
from model.command_line import Parser

VARIANT, GOAL = "xclip-base-patch32", 1 / 3
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
PEER = "transformers, first answer"
Processes = dict[str, Callable[[], Any]]


class FirstAnswer:
    """The peer's process for the length of a `with` block, entered when it has answered."""

    def __init__(self, folder: Path, clip: Path, library: str = "transformers") -> None:
        self._arguments = [library, str(folder), str(clip)]

    def __enter__(self) -> FirstAnswer:
        command = [sys.executable, "-m", "benchmarks.lib.first_answer", *self._arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith(b"answered"):
            self.__exit__()
            raise RuntimeError(f"{self._arguments[0]} did not answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def memory_mib(self) -> dict[str, float]:
        """Measure resident and proportional memory."""
        memory = psutil.Process(self._process.pid).memory_full_info()
        return {"rss": memory.rss / MIB, "pss": memory.pss / MIB}


def main(arguments: Sequence[str]) -> int:
    """Measure; the exit status says whether the goal was met."""
    parser = Parser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="alternated starts (3)")
    parser.add_argument(
        "--open-clip",
        nargs="*",
        choices=tuple(NETWORKS),
        default=tuple(NETWORKS),
        metavar="NAME",
        help=f"networks of open_clip to start as well ({', '.join(NETWORKS)})",
    )
    options = parser.parse_args(arguments)
    rounds = options.rounds
    bundle, folder = bundle_of(VARIANT, PRECISIONS), pretrained(VARIANT)
    missing = missing_from(bundle, PRECISIONS)
    with tempfile.TemporaryDirectory() as temporary:
        clip = Path(temporary) / "clip.mp4"
        clip.write_bytes(ten_second_clip())
        processes: Processes = {PEER: lambda: FirstAnswer(folder, clip)}
        for precision in (p for p in PRECISIONS if p not in missing):
            processes[f"our server, {precision}"] = partial(our_server, bundle.path, precision)
        kept = ("--runtime", "onnxruntime-cpu", "--weight-cache", f"{temporary}/packed")
        packed = partial(our_server, bundle.path, "fp32", *kept)
        processes["our server, fp32, packed"] = packed
        rows = rows_of(processes, rounds)
        for name in options.open_clip:
            rows += rows_of(_open_clip(name, clip), rounds)
    publish(
        "start",
        f"python -m benchmarks.start --rounds {rounds}",
        rows,
        variant=VARIANT,
        not_run=missing or "none",
        goal=f"our server at most {GOAL:.3f} of the time to the peer's first answer",
    )
    return 0 if all(row["of_peer"] <= GOAL for row in rows if row["what"].startswith("our")) else 1


def _open_clip(name: str, clip: Path) -> Processes:
    """Return the processes of a network of open_clip, open_clip's own first."""
    bundle, folder = open_clip_bundle(name), folder_of(name)
    processes: Processes = {
        f"{name}, open_clip, first answer": lambda: FirstAnswer(folder, clip, "open_clip")
    }
    for build in bundle.manifest.precisions:
        server = partial(our_server, bundle.path, build.precision)
        processes[f"our server, {name}, {build.precision}"] = server
    return processes


def rows_of(processes: Processes, rounds: int) -> list[dict[str, Any]]:
    """Time to be ready, in turn, and the memory of one process and of two at the same time.

    The first of the processes is the peer.
    """
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for turn in range(-1, rounds):  # the first fills the page cache
        for name, process in processes.items():
            began = time.perf_counter()
            with process():
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - began)
    timings = {name: timing_of(values) for name, values in seconds.items()}
    base = next(iter(timings.values())).median_ms
    rows = []
    for name, timing in timings.items():
        one, two = memory_mib(processes[name], 1), memory_mib(processes[name], 2)
        memory = {"one_mib": one, "two_mib": two, "second_adds_mib": two - one}
        rows.append(as_row(name, timing, of_peer=timing.median_ms / base, **memory))
    return rows


def memory_mib(process: Callable[[], Any], count: int) -> float:
    """Measure the proportional memory of so many at the same time, together."""
    with ExitStack() as stack:
        running = [stack.enter_context(process()) for _ in range(count)]
        return sum(one.memory_mib()["pss"] for one in running)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
