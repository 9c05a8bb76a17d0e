"""Decoding eight frames of a clip against PyAV used plainly, decord, OpenCV and torchcodec.

    python -m benchmarks.decode [--rounds N] [--only TEXT]

Clips of every usual codec, made with ffmpeg and kept in `build/films`: ten seconds of 340x256 and
of 1080p, six of 4K, 30 and 60 frames a second, a key frame every second and every 250 frames, and
ten minutes of 720p. The peers decode the same eight frames to RGB at full size; ours are also
resized and cropped. Everybody runs with one thread and with all; ours is compared with the best
peer of the same kind. By `keyframes` ours takes other frames than the peers do, and is compared
with the time of the best peer's exact ones; "all decoded" is ours without a plan, which is what
the parsers in `model/inputs/video/bitstream` are for. Goals: by `exact` at most 1.0 of the best
peer; by `keyframes` at most 0.3 of it at 4K, and at most 0.2 of `exact` where 1080p or 4K has a
key frame a second; the ten minutes at most 0.1 of a full decode. A peer that is not installed is
named as not run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.lib.films import Film
from benchmarks.lib.timing import Timing, publish, take_turns
from export.runtime import available_cpus
from model.command_line import Parser, first_line
from model.inputs import FrameRule, InputSpec, decode_clip, sample_indices
from model.inputs.video.sample import Plan

T = 8
SPEC = InputSpec.official(T)
OURS, OURS_KEYED, OURS_WHOLE = "ours", "ours, keyframes", "ours, all decoded"
GOAL, KEYED_GOAL, OF_EXACT_GOAL, FULL_GOAL = 1.0, 0.3, 0.2, 0.1
Fetch = Callable[[], Any]


HD, UHD = (1920, 1080), (3840, 2160)
LONG = Film("H.264", 1280, 720, 30, 250, 60, 10)
CODECS = ("H.264", "HEVC", "HEVC 10 bit", "VP9", "AV1", "MPEG-4", "MPEG-2")
FILMS = (
    *(Film(codec, 340, 256, 30, 250, 10) for codec in CODECS),
    *(Film(codec, *HD, 30, 250, 10) for codec in CODECS),
    *(Film(codec, *HD, 30, 30, 2, 5) for codec in CODECS),
    *(Film(codec, *HD, 60, 60, 2, 5) for codec in ("H.264", "HEVC 10 bit")),
    *(Film(codec, *UHD, 30, 30, 2, 3) for codec in CODECS),
    *(Film(codec, *UHD, 60, 60, 2, 3) for codec in ("H.264", "HEVC 10 bit")),
    LONG,
)


def test_frames(frames: int) -> list[int]:
    """Return the frame numbers of the published test rule."""
    numbers: list[int] = sample_indices(frames, T)[0].tolist()
    return numbers


def ours(path: Path, threads: int, rule: FrameRule = FrameRule.EXACT, plan: Plan = "auto") -> Fetch:
    """Decode with this project."""

    def fetch() -> np.ndarray:
        with path.open("rb") as source:
            return decode_clip(source, SPEC, frame_rule=rule, threads=threads, plan=plan).frames

    return fetch


def pyav(path: Path, threads: int) -> Fetch:
    """Decode with PyAV as its examples do: every frame, and those that are wanted to RGB."""
    import av

    def fetch() -> list[Any]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.thread_count = "AUTO", threads
            numbers = set(test_frames(stream.frames or frames_of(path)))
            taken = []
            for number, frame in enumerate(container.decode(stream)):
                if number in numbers:
                    taken.append(frame.to_ndarray(format="rgb24"))
                if len(taken) == T:
                    return taken
            return taken

    return fetch


@cache
def frames_of(path: Path) -> int:
    """Count the frames of a file that does not say how many it has."""
    with path.open("rb") as source:
        return decode_clip(source, SPEC).info.frames


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
    "PyAV": pyav,
    "decord": decord,
    "OpenCV, grabbing": lambda path, threads: opencv(path, threads, seeking=False),
    "OpenCV, seeking": lambda path, threads: opencv(path, threads, seeking=True),
    "torchcodec, approximate": lambda path, threads: torchcodec(path, threads, "approximate"),
    "torchcodec, exact": lambda path, threads: torchcodec(path, threads, "exact"),
}


def contestants(film: Film, threads: int) -> tuple[dict[str, Fetch], dict[str, str]]:
    """Tell who runs, and why others do not."""
    path = film.path()
    running: dict[str, Fetch] = {
        OURS: ours(path, threads),
        OURS_KEYED: ours(path, threads, FrameRule.KEYFRAMES),
    }
    if film is not LONG:
        running[OURS_WHOLE] = ours(path, threads, plan="full")
    missing: dict[str, str] = {}
    for name, prepare in PEERS.items():
        if film is LONG and name in ("OpenCV, grabbing", "PyAV"):
            continue  # decodes nearly all of the ten minutes: no contest, and no time
        try:
            fetch = prepare(path, threads)
            fetch()
        except Exception as error:
            missing[f"{name}, {film.name}"] = f"{type(error).__name__}: {first_line(error)[:80]}"
        else:
            running[name] = fetch
    return running, missing


def rows_of(film: Film, threads: int, timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Return the table lines of one clip: everybody, and ours over the best peer."""
    best = min((t.median_ms for name, t in timings.items() if name in PEERS), default=None)
    exact = timings[OURS].median_ms
    return [
        {
            "clip": film.name,
            "threads": threads,
            "reader": name,
            "median_ms": round(timing.median_ms, 1),
            "of best peer": ratio(timing.median_ms, best) if name not in PEERS else "",
            "of exact": ratio(timing.median_ms, exact) if name not in PEERS else "",
        }
        for name, timing in timings.items()
    ]


def ratio(ms: float, of: float | None) -> float | str:
    """Return one time over another, nothing where there is none."""
    return "" if of is None else round(ms / of, 3)


def full_decode_ms(path: Path) -> float:
    """Measure decoding every frame once, as where a file tells nothing about itself."""
    started = time.perf_counter()
    with path.open("rb") as source:
        decode_clip(source, SPEC, plan="full")
    return 1e3 * (time.perf_counter() - started)


def worst(rows: list[dict[str, Any]], column: str, reader: str, films: set[str]) -> float | None:
    """Return the largest figure of a reader in a column."""
    values = [
        row[column]
        for row in rows
        if row["reader"] == reader and row["clip"] in films and row[column] != ""
    ]
    return max(values, default=None)


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether the goals were met."""
    parser = Parser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="alternated runs (3; 4K: one)")
    parser.add_argument("--only", default="", help="only clips whose name contains this")
    given = parser.parse_args(arguments)
    films = [film for film in FILMS if given.only in film.name]
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for film in films:
        rounds = 1 if film.height == UHD[1] else given.rounds
        for threads in dict.fromkeys((1, available_cpus())):
            running, absent = contestants(film, threads)
            missing |= absent
            rows += rows_of(film, threads, take_turns(running, rounds, warm_up=0))
            for row in rows[-len(running) :]:
                print(*row.values(), sep="  ", flush=True)
    full_ms = full_decode_ms(LONG.path())
    long_ms = [r["median_ms"] for r in rows if r["reader"] == OURS and r["clip"] == LONG.name]
    of_full = long_ms[0] / full_ms if long_ms else None
    large = {f.name for f in films if f.height == UHD[1]}
    short_groups = {f.name for f in films if f.height >= HD[1] and f.gop == f.rate}
    figures = {
        "exact_of_best_peer": (worst(rows, "of best peer", OURS, {f.name for f in films}), GOAL),
        "keyframes_of_best_peer_4k": (worst(rows, "of best peer", OURS_KEYED, large), KEYED_GOAL),
        "keyframes_of_exact": (worst(rows, "of exact", OURS_KEYED, short_groups), OF_EXACT_GOAL),
        "ten_minutes_of_full_decode": (of_full, FULL_GOAL),
    }
    publish(
        "decode",
        f"python -m benchmarks.decode --rounds {given.rounds}",
        rows,
        goal=", ".join(f"{name} at most {goal}" for name, (_, goal) in figures.items()),
        **{name: value for name, (value, _) in figures.items()},
        full_decode_of_ten_minutes_ms=round(full_ms),
        not_run=missing or "none",
    )
    return int(any(value is None or value > goal for value, goal in figures.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
