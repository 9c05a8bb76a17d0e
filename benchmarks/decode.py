"""Decoding eight frames of a clip against decord, OpenCV and torchcodec.

    python -m benchmarks.decode [--rounds N]

Three shapes, made with ffmpeg into a temporary folder: 10 s of 340x256, 2.5 s of 1080p, 10 minutes
of 720p. The peers decode the same eight frames to RGB at full size; ours are also resized and
cropped. Everybody runs with one thread and with all; ours is compared with the best peer of the
same kind. Ours runs by both frame rules; by `keyframes` it takes other frames than the peers do.
Goals: at most 1.0 of the best peer on every shape by `exact`, and the ten minutes at most 0.1 of a
full decode. A peer that is not installed is named as not run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.lib.timing import Timing, publish, take_turns
from export.runtime import available_cpus
from model.command_line import Parser, first_line
from model.inputs import FrameRule, InputSpec, decode_clip, sample_indices

T = 8
SPEC = InputSpec.official(T)
OURS, OURS_KEYED = "ours", "ours, keyframes"
GOAL, FULL_GOAL = 1.0, 0.1
Fetch = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """A clip to make: a noisy moving test picture, so that it takes bits as a camera's does."""

    name: str
    width: int
    height: int
    seconds: float
    repeats: int = 1
    turns: int = 1  # a short clip takes more of them, for steadier medians

    def make(self, folder: Path) -> Path:
        """Encode it once; a long one repeats a minute, whose key frames fall where they fall."""
        part = folder / f"{self.height}_part.mp4"
        source = f"testsrc2=size={self.width}x{self.height}:rate=30:duration={self.seconds}"
        encode = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-pix_fmt", "yuv420p"]
        ffmpeg("-f", "lavfi", "-i", source, "-vf", "noise=alls=12:allf=t", *encode, str(part))
        if self.repeats == 1:
            return part
        whole = folder / f"{self.height}.mp4"
        ffmpeg("-stream_loop", str(self.repeats - 1), "-i", str(part), "-c", "copy", str(whole))
        return whole


SHAPES = (
    Shape("10 s of 340x256", 340, 256, 10, turns=5),
    Shape("2.5 s of 1080p", 1920, 1080, 2.5),
    Shape("10 min of 720p", 1280, 720, 60, repeats=10),
)


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg quietly."""
    subprocess.run(["ffmpeg", "-y", "-v", "error", *arguments], check=True)


def test_frames(frames: int) -> list[int]:
    """Return the frame numbers of the published test rule."""
    numbers: list[int] = sample_indices(frames, T)[0].tolist()
    return numbers


def ours(path: Path, threads: int, rule: FrameRule = FrameRule.EXACT) -> Fetch:
    """Decode with this project."""

    def fetch() -> np.ndarray:
        with path.open("rb") as source:
            return decode_clip(source, SPEC, frame_rule=rule, threads=threads).frames

    return fetch


def decord(path: Path, threads: int) -> Fetch:
    """Decode with decord's VideoReader."""
    import decord as library

    def fetch() -> Any:
        reader = library.VideoReader(str(path), num_threads=threads)
        return reader.get_batch(test_frames(len(reader))).asnumpy()

    return fetch


def opencv(path: Path, threads: int, seeking: bool) -> Fetch:
    """Decode with OpenCV's VideoCapture, jumping to each frame or grabbing all up to the last."""
    import cv2

    options = [cv2.CAP_PROP_N_THREADS, threads]

    def fetch() -> list[Any]:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)
        numbers = test_frames(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if seeking:
            return [_seek(capture, n) for n in numbers]
        return [
            capture.retrieve()[1] for n in range(numbers[-1] + 1) if capture.grab() and n in numbers
        ]

    def _seek(capture: Any, number: int) -> Any:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        return capture.read()[1]

    return fetch


def torchcodec(path: Path, threads: int, mode: Literal["exact", "approximate"]) -> Fetch:
    """Decode with torchcodec; `approximate` trusts the header, `exact` scans the file."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

    def fetch() -> Any:
        decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=threads)
        return decoder.get_frames_at(test_frames(len(decoder))).data

    return fetch


PEERS: dict[str, Callable[[Path, int], Fetch]] = {
    "decord": decord,
    "OpenCV, grabbing": lambda path, threads: opencv(path, threads, seeking=False),
    "OpenCV, seeking": lambda path, threads: opencv(path, threads, seeking=True),
    "torchcodec, approximate": lambda path, threads: torchcodec(path, threads, "approximate"),
    "torchcodec, exact": lambda path, threads: torchcodec(path, threads, "exact"),
}


def contestants(path: Path, threads: int, long: bool) -> tuple[dict[str, Fetch], dict[str, str]]:
    """Tell who runs, and why others do not."""
    running: dict[str, Fetch] = {OURS: ours(path, threads)}
    running[OURS_KEYED] = ours(path, threads, FrameRule.KEYFRAMES)
    missing: dict[str, str] = {}
    for name, prepare in PEERS.items():
        if long and name == "OpenCV, grabbing":
            continue  # decodes nearly all of the ten minutes: no contest, and no time
        try:
            fetch = prepare(path, threads)
            fetch()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {first_line(error)[:80]}"
        else:
            running[name] = fetch
    return running, missing


def rows_of(shape: Shape, threads: int, timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Return the table lines of one shape: everybody, and ours over the best peer."""
    peers = [t.median_ms for name, t in timings.items() if name not in (OURS, OURS_KEYED)]
    rows = []
    for name, timing in timings.items():
        ratio = timing.median_ms / min(peers) if name in (OURS, OURS_KEYED) and peers else None
        rows.append(
            {
                "clip": shape.name,
                "threads": threads,
                "reader": name,
                "median_ms": timing.median_ms,
                "best_ms": timing.best_ms,
                "of best peer": "" if ratio is None else round(ratio, 3),
            }
        )
    return rows


def full_decode_ms(path: Path) -> float:
    """Measure decoding every frame once, as where a file tells nothing about itself."""
    started = time.perf_counter()
    with path.open("rb") as source:
        decode_clip(source, SPEC, plan="full")
    return 1e3 * (time.perf_counter() - started)


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether the goals were met."""
    parser = Parser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="alternated runs (3)")
    rounds = parser.parse_args(arguments).rounds
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            path = shape.make(Path(folder))
            for threads in dict.fromkeys((1, available_cpus())):
                running, absent = contestants(path, threads, shape.repeats > 1)
                missing |= absent
                rows += rows_of(
                    shape, threads, take_turns(running, rounds * shape.turns, warm_up=1)
                )
        full_ms = full_decode_ms(path)
    long_ms = [r["median_ms"] for r in rows if r["reader"] == OURS and r["clip"] == shape.name]
    of_full = long_ms[0] / full_ms
    publish(
        "decode",
        f"python -m benchmarks.decode --rounds {rounds}",
        rows,
        goal=f"at most {GOAL} of the best peer; ten minutes at most {FULL_GOAL} of a full decode",
        full_decode_of_ten_minutes_ms=round(full_ms),
        ten_minutes_of_full_decode=round(of_full, 4),
        not_run=missing or "none",
    )
    exact = [row for row in rows if row["reader"] == OURS]
    ratios = [row["of best peer"] for row in exact if row["of best peer"] != ""]
    return 0 if ratios and max(ratios) <= GOAL and of_full <= FULL_GOAL else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
