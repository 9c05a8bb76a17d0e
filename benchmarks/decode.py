"""Decoding eight frames of a clip against PyAV used plainly, decord, OpenCV and torchcodec.

    python -m benchmarks.decode [--rounds N] [--only TEXT] [--minutes N] [--anew]

Clips of every usual codec, made with ffmpeg and kept in `build/films`: ten seconds of 340x256, of
1080p and of 4K, 30 and 60 frames a second (4K at 60 for H.264 and HEVC alone), a key frame every
second and every 250 frames, H.264 and HEVC with a key frame a second at the bit rates of phones,
and ten minutes of 720p. The peers decode the same eight frames to RGB at full size; ours are also
resized and cropped. Everybody runs with one thread (seconds of the processor count) and with all
(seconds on the clock), the readers of each library in a process of their own: two in one may take
each other's FFmpeg. Who gives other frames than those asked for does not count.

Ours is compared with the best peer of as many threads. By `keyframes` ours takes other frames than
the peers do, and is compared with the best peer's exact ones, with ours by `exact`, and with what
FFmpeg's decoder alone takes for the same packets. "All decoded" is ours without a plan, which is
what the parsers in `model/inputs/video/bitstream` are for. Goals: by `exact` at most 1.0 of the
best peer; by `keyframes` at most 0.3 of it at 4K, and at most 0.2 of `exact` where 1080p or 4K has
a key frame a second; the ten minutes at most 0.1 of a full decode. A peer that is not installed is
named as not run.

    PYTHONPATH=build/decord2 python -m benchmarks.decode

takes decord2 for decord, after `pip install --no-deps --target build/decord2 decord2`: both have
one name. What was measured is kept in `build/benchmarks/decode`, clip by clip: a run that ends
early, as with `--minutes`, is gone on with by the next one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from benchmarks.lib.decoder_alone import decoder_alone
from benchmarks.lib.films import FILMS as FOLDER
from benchmarks.lib.films import Film, phone_film
from benchmarks.lib.reader_process import FRAMES, CannotRun, Fetch, ReaderProcess
from benchmarks.lib.timing import publish
from benchmarks.lib.video_peers import DECODE_EVERYTHING, PEERS, SPEC
from export.runtime import available_cpus
from model.command_line import Parser
from model.inputs import FrameRule, InputSpec, decode_clip
from model.inputs.video.sample import Plan

OURS, OURS_KEYED, OURS_WHOLE = "ours", "ours, keyframes", "ours, all decoded"
ALONE, ALONE_KEYED = "decoder alone", "decoder alone, keyframes"
GOAL, KEYED_GOAL, OF_EXACT_GOAL, FULL_GOAL = 1.0, 0.3, 0.2, 0.1
KEPT = FOLDER.parent / "benchmarks" / "decode"
# Who takes longer than so many times the best of the first turn takes part in no other.
NO_CONTEST = 2.0
# Seconds on one clip after which no other turn begins, once there were three.
ENOUGH_S, FEWEST_TURNS = 6.0, 3

SMALL, HD, UHD = (340, 256), (1920, 1080), (3840, 2160)
LONG = Film("H.264", 1280, 720, 30, 250, 60, 10)
CODECS = ("H.264", "HEVC", "HEVC 10 bit", "VP9", "AV1", "MPEG-4", "MPEG-2")
PHONES = (("H.264", 30), ("HEVC", 30), ("HEVC 10 bit", 30), ("H.264", 60), ("HEVC 10 bit", 60))
OTHERS = ("VP9", "AV1", "MPEG-4", "MPEG-2")
FILMS = (
    *(phone_film(codec, size, rate) for size in (UHD, HD) for codec, rate in PHONES),
    *(Film(codec, *SMALL, 30, 250, 10) for codec in CODECS),
    *(Film(codec, *size, 30, 30, 2, 5) for size in (UHD, HD) for codec in OTHERS),
    *(Film(codec, *HD, 60, 60, 2, 5) for codec in OTHERS),
    *(Film(codec, *HD, 30, 250, 10) for codec in CODECS),
    LONG,
)
# Of one clip and number of threads: the milliseconds of each reader, and why others did not run.
Unit = dict[str, dict[str, Any]]


def ours(path: Path, threads: int, rule: FrameRule = FrameRule.EXACT, plan: Plan = "auto") -> Fetch:
    """Decode with this project."""

    def fetch() -> np.ndarray:
        with path.open("rb") as source:
            clip = decode_clip(source, SPEC, frame_rule=rule, threads=threads, plan=plan)
            return clip.frames[0]

    return fetch


def prepare_ours(name: str, path: Path, threads: int) -> Fetch | None:
    """Prepare this project, or FFmpeg's decoder alone."""
    return {
        OURS: lambda: ours(path, threads),
        OURS_KEYED: lambda: ours(path, threads, FrameRule.KEYFRAMES),
        OURS_WHOLE: lambda: ours(path, threads, plan="full"),
        ALONE: lambda: decoder_alone(path, SPEC, FrameRule.EXACT),
        ALONE_KEYED: lambda: decoder_alone(path, SPEC, FrameRule.KEYFRAMES),
    }[name]()


def prepare_peer(name: str, path: Path, threads: int) -> Fetch | None:
    """Prepare another reader."""
    return PEERS[name](path, threads)


def middles(film: Film) -> np.ndarray:
    """Return the square in the middle of each frame that is asked for, as it was decoded."""
    whole = InputSpec(num_frames=FRAMES, image_size=224, resize_short_side=film.height)
    with film.path().open("rb") as source:
        return decode_clip(source, whole).frames[0]


def contestants(film: Film, threads: int) -> list[str]:
    """Return who runs."""
    is_large = film is LONG or film.height == UHD[1]
    names = [OURS, OURS_KEYED, *(() if is_large else (OURS_WHOLE,))]
    if threads == 1 and film is not LONG:
        names += [ALONE, ALONE_KEYED]
    return names + [n for n in PEERS if not is_large or n not in DECODE_EVERYTHING]


def library(name: str) -> str:
    """Return what a reader shares its process with: those of the same library."""
    return name.partition(",")[0] if name in PEERS else OURS


def processes() -> dict[str, ReaderProcess]:
    """Return the processes of all libraries; each starts when it is needed."""
    others = {library(name): ReaderProcess(prepare_peer) for name in PEERS}
    return {OURS: ReaderProcess(prepare_ours), **others}


def measure(film: Film, threads: int, rounds: int, process_of: Mapping[str, ReaderProcess]) -> Unit:
    """Let all take a turn, and those who are near the best some more, which alone count for them:
    in the first one libraries are loaded and the file is read from the disk.
    """
    seconds: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    path = film.path()
    right = middles(film)
    began = time.perf_counter()
    for name in contestants(film, threads):
        try:
            expected = right if name in PEERS else None
            first = process_of[library(name)].prepare(name, path, threads, expected)
        except CannotRun as error:
            missing[name] = str(error)
        else:
            seconds |= {} if first is None else {name: [first]}
    best = min((seconds[name][0] for name in seconds if name in PEERS), default=0.0)
    always = (OURS, OURS_KEYED, ALONE, ALONE_KEYED)
    near = [n for n in seconds if n in always or seconds[n][0] <= NO_CONTEST * best]
    seconds |= {name: [] for name in near}
    for turn in range(rounds):
        if turn >= FEWEST_TURNS and time.perf_counter() - began > ENOUGH_S:
            break
        for name in [name for name in near if name not in missing]:
            try:
                seconds[name].append(process_of[library(name)].turn(name))
            except CannotRun as error:
                missing[name] = str(error)
    seconds = {name: values for name, values in seconds.items() if name not in missing}
    times = {name: round(1e3 * float(np.median(values)), 1) for name, values in seconds.items()}
    return {"readers": times, "not run": missing}


def full_decode(film: Film) -> Unit:
    """Measure decoding every frame once, as where a file tells nothing about itself."""
    fetch = ours(film.path(), 1, plan="full")
    began = time.process_time()
    fetch()
    seconds = time.process_time() - began
    return {"readers": {OURS_WHOLE: round(1e3 * seconds, 1)}, "not run": {}}


def kept(file: Path, measure: Callable[[], Unit]) -> Unit:
    """Return what an earlier run measured, or measure now and keep it."""
    if not file.exists():
        unit = measure()
        file.write_text(json.dumps(unit, indent=1) + "\n")
        print(file.stem, *(f"{n} {ms}" for n, ms in unit["readers"].items()), sep="  ", flush=True)
    result: Unit = json.loads(file.read_text())
    return result


def row_of(film: Film, threads: int, times: Mapping[str, float]) -> dict[str, Any]:
    """Return the table line of one clip: ours, the best peer, and one over the other."""
    best = min((name for name in times if name in PEERS), key=times.__getitem__, default=None)
    peer, exact, keyed = (times[best] if best else None), times[OURS], times[OURS_KEYED]
    return {
        "clip": film.name,
        "threads": threads,
        "exact ms": exact,
        "keyframes ms": keyed,
        "all decoded ms": times.get(OURS_WHOLE),
        "best peer": best,
        "its ms": peer,
        "exact, of peer": ratio(exact, peer),
        "keyframes, of peer": ratio(keyed, peer),
        "keyframes, of exact": ratio(keyed, exact),
        "the same, decoder alone": ratio(times.get(ALONE_KEYED), times.get(ALONE)),
    }


def ratio(ms: float | None, of: float | None) -> float | None:
    """Return one time over another, nothing where there is none."""
    return None if ms is None or not of else round(ms / of, 3)


def worst(rows: list[dict[str, Any]], column: str, films: set[str]) -> dict[str, Any] | None:
    """Return the line with the largest figure in a column."""
    known = [row for row in rows if row["clip"] in films and row[column] is not None]
    return max(known, key=lambda row: row[column], default=None)


def figures_of(rows: list[dict[str, Any]], full_ms: float | None) -> dict[str, Any]:
    """Return what the goals are about, and where the worst of each was."""
    every = {film.name for film in FILMS}
    large = {film.name for film in FILMS if film.height == UHD[1]}
    grouped = {film.name for film in FILMS if film.height >= HD[1] and film.gop == film.rate}
    figures: dict[str, Any] = {}
    for name, column, films in (
        ("exact_of_best_peer", "exact, of peer", every),
        ("keyframes_of_best_peer_4k", "keyframes, of peer", large),
        ("keyframes_of_exact", "keyframes, of exact", grouped),
    ):
        line = worst(rows, column, films)
        figures[name] = line and line[column]
        figures[f"{name}_where"] = line and f"{line['clip']}, {line['threads']} threads"
    alone = worst(rows, "the same, decoder alone", grouped)
    figures["keyframes_of_exact_decoder_alone"] = alone and alone["the same, decoder alone"]
    long_ms = [r["exact ms"] for r in rows if r["clip"] == LONG.name and r["threads"] == 1]
    figures["ten_minutes_of_full_decode"] = ratio(long_ms[0], full_ms) if long_ms else None
    return figures


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether the goals were met."""
    parser = Parser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of the fast ones, at most (5)")
    parser.add_argument("--only", default="", help="only clips whose name contains this")
    parser.add_argument("--minutes", type=float, default=60, help="begin no clip after these (60)")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    given = parser.parse_args(arguments)
    if given.anew:
        rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * given.minutes
    rows: list[dict[str, Any]] = []
    readers: list[dict[str, Any]] = []
    left: list[str] = []
    missing: dict[str, str] = {}
    process_of = processes()
    for film in FILMS:
        for threads in dict.fromkeys((1, available_cpus())):
            file = KEPT / f"{film.file.stem}_{threads}.json"
            is_due = given.only in film.name and time.monotonic() < deadline
            if not (is_due or file.exists()):
                left.append(f"{film.name}, {threads} threads")
                continue
            unit = kept(file, partial(measure, film, threads, given.rounds, process_of))
            rows.append(row_of(film, threads, unit["readers"]))
            readers.append({"clip": film.name, "threads": threads, **unit["readers"]})
            missing |= {f"{reader}, {film.name}": why for reader, why in unit["not run"].items()}
    full_ms, file = None, KEPT / "full.json"
    if file.exists() or (given.only in LONG.name and time.monotonic() < deadline):
        full_ms = kept(file, lambda: full_decode(LONG))["readers"][OURS_WHOLE]
    figures = figures_of(rows, full_ms)
    goals = {
        "exact_of_best_peer": GOAL,
        "keyframes_of_best_peer_4k": KEYED_GOAL,
        "keyframes_of_exact": OF_EXACT_GOAL,
        "ten_minutes_of_full_decode": FULL_GOAL,
    }
    publish(
        "decode",
        "python -m benchmarks.decode",
        rows,
        goal=", ".join(f"{name} at most {goal}" for name, goal in goals.items()),
        **figures,
        full_decode_of_ten_minutes_ms=full_ms,
        not_run=missing or "none",
        not_measured=left or "none",
        readers=readers,
    )
    return int(any(figures[name] is None or figures[name] > goal for name, goal in goals.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
