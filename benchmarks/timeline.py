"""What a timeline costs, beside decoding the video once and encoding its windows; and its memory.

    python -m benchmarks.timeline [--bundle DIR …] [--minutes 10] [--window 4] [--stride 2]

A film of 720p is asked about as a whole, and its first ten seconds alone, of a server each; by
default of X-CLIP B/32 (random weights) and of the demo, whose encoder costs next to nothing. Its
windows are decoded in one pass by one thread, and one window is encoded again and again, in this
process: what the server takes in all is held against the sum, both in seconds of processors, which
others on the machine change little. Memory is that of all processes of the server, the most of
samples.
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lib.bundles import bundle_of
from benchmarks.lib.films import Film
from benchmarks.lib.server_process import ServerProcess, our_server
from benchmarks.lib.timing import publish
from export.bundle import open_bundle
from export.runtime import open_runtime
from model.command_line import Parser
from model.inputs.limits import VideoLimits
from model.inputs.video.window_pass import Window
from model.inputs.video.window_reader import read_windows
from model.inputs.windows import Cut
from service.settings import DEMO_BUNDLE

LABELS = ["a red circle moving left", "a blue square growing", "a green triangle moving up"]
FILM = Film("H.264", 1280, 720, 25, seconds=10, gop=50, noise=2)
VARIANT = "xclip-base-patch32"
ENCODED = 20  # windows, to measure the encoder
MOST_WINDOWS = 100_000
SAMPLE_S = 0.25


def main(arguments: Sequence[str]) -> int:
    """Ask, measure, print and write."""
    given = _parser().parse_args(arguments)
    bundles = given.bundle or [bundle_of(VARIANT, ("fp32",)).path, DEMO_BUNDLE]
    rows = [measured(given, bundle) for bundle in bundles]
    publish("timeline", f"python -m benchmarks.timeline --minutes {given.minutes:g}", rows)
    return 0


def measured(given: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """Return the row of one bundle."""
    long = replace(FILM, repeats=max(1, round(6 * given.minutes))).path()
    short = FILM.path()
    answer, wall_s, used, memory = asked(given, bundle, long)
    *_, memory_short = asked(given, bundle, short)
    windows = len(answer["windows"])
    decode_s, frames = decoded(given, bundle, long)
    encode_s = encoded(bundle, frames) * windows
    return {
        "network": open_bundle(bundle, check_files=False).manifest.name,
        "video_s": answer["video"]["duration_s"],
        "windows": windows,
        "wall_s": round(wall_s, 2),
        "server_s": round(used["server"], 2),
        "worker_s": round(used["workers"], 2),
        "decode_s": round(decode_s, 2),
        "encode_s": round(encode_s, 2),
        "of_the_sum": round(sum(used.values()) / (decode_s + encode_s), 3),
        "memory_mib": round(memory),
        "memory_of_ten_seconds_mib": round(memory_short),
    }


def asked(
    given: argparse.Namespace, bundle: Path, film: Path
) -> tuple[dict[str, Any], float, dict[str, float], float]:
    """Return the answer about a film, seconds and processor seconds, and the most memory in MiB."""
    flags = (
        "--runtime",
        "onnxruntime-cpu",
        "--max-windows",
        "2000",
        "--max-upload-bytes",
        str(1 << 30),
    )
    with our_server(bundle, "fp32", *flags) as server, most_memory(server) as memory:
        before, began = server.processor_s(), time.perf_counter()
        response = httpx.post(
            f"{server.url}/v1/timeline",
            files={"video": ("film.mp4", film.read_bytes())},
            data={
                "labels": LABELS,
                "window_s": str(given.window),
                "stride_s": str(given.stride),
                "frame_rule": "exact",
            },
            timeout=None,
        )
        seconds = time.perf_counter() - began
        used = {who: s - before[who] for who, s in server.processor_s().items()}
        response.raise_for_status()
    return response.json(), seconds, used, max(memory)


@contextmanager
def most_memory(server: ServerProcess) -> Iterator[list[float]]:
    """Sample the memory of a server while it works."""
    samples, done = [server.memory_mib()["pss"]], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            samples.append(server.memory_mib()["pss"])

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield samples
    finally:
        done.set()
        sampling.join()


def decoded(given: argparse.Namespace, bundle: Path, film: Path) -> tuple[float, Any]:
    """Return seconds of processor time to decode all windows, and the frames of the last."""
    spec = open_bundle(bundle).manifest.inputs
    cut = Cut(given.window, given.stride, MOST_WINDOWS)
    began, frames = time.process_time(), None
    for part in read_windows(io.BytesIO(film.read_bytes()), spec, cut, limits=VideoLimits()):
        if isinstance(part, Window):
            frames = part.frames
    return time.process_time() - began, frames


def encoded(bundle: Path, frames: Any) -> float:
    """Return seconds of processors to encode one window."""
    runtime = open_runtime(open_bundle(bundle), "onnxruntime-cpu")
    runtime.encode_video(frames[None])
    began = time.process_time()
    for _ in range(ENCODED):
        runtime.encode_video(frames[None])
    used = time.process_time() - began
    runtime.close()
    return used / ENCODED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="benchmarks.timeline", description=__doc__)
    parser.add_argument("--bundle", type=Path, action="append", help="default: B/32 and the demo")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--stride", type=float, default=2.0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
