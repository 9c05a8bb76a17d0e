"""What the embedded demo gets right, asked over HTTP on clips that its training never saw.

    python -m benchmarks.demo_accuracy [--bundle DIR] [--clips 200] [--seed 4242] [--videos FILE …]

Questions about fresh clips of combinations that were kept out of training: 24 plain labels; 24
labels worded as training never worded them; a label against its opposite in time; colour and
shape on their own; and 24 labels about clips of a second renderer, which draws with OpenCV (over
frames of `--videos`, where some are given).
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from benchmarks.lib import questions
from benchmarks.lib.questions import Question
from model.command_line import Parser
from model.data.shapes import Subject
from model.data.shapes.dataset import ShapeClip, ShapesOptions, make_clip
from model.data.shapes.scene import SceneOptions
from tests.model.data.shapes.other_renderer import draw_clips, stills_of

START_S = 120
RESULT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "demo_accuracy.json"


def main(argv: Sequence[str]) -> int:
    """Draw the clips, start the server, ask, print and write the shares."""
    given = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        ours = _our_clips(Path(folder), given.clips, given.seed)
        others = _other_clips(Path(folder), given.clips, given.seed, given.videos)
        rng = np.random.default_rng(given.seed)
        rounds = {
            "unseen combinations": [questions.plain(rng, path, clip) for path, clip in ours],
            "unseen wordings": [questions.reworded(rng, path, clip) for path, clip in ours],
            "opposites in time": [questions.pair(path, clip) for path, clip in ours],
            "colour alone, of 8": [questions.colour(path, clip) for path, clip in ours],
            "shape alone, of 4": [questions.shape(path, clip) for path, clip in ours],
            "another renderer": [questions.foreign(rng, path, subject) for path, subject in others],
        }
        with _server(given.bundle) as client:
            shares = {name: _share(client, asked) for name, asked in rounds.items()}
            model = client.get("/model").json()
    for name, (right, count) in shares.items():
        print(f"{name:22} {right / count:6.1%}  ({right} of {count})")
    if given.write:
        figures = {n: {"right": r, "of": c, "share": r / c} for n, (r, c) in shares.items()}
        content = {
            "model": model.get("name"),
            "labels": questions.LABELS,
            "seed": given.seed,
            **figures,
        }
        RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.demo_accuracy")
    parser.add_argument("--bundle", type=Path, help="default: the embedded one")
    parser.add_argument("--clips", type=int, default=200, help="of each renderer (200)")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="for backgrounds")
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    return parser


def _our_clips(folder: Path, count: int, seed: int) -> list[tuple[Path, ShapeClip]]:
    scenes = SceneOptions(short_side=(64, 480))
    options = ShapesOptions(clips=0, unseen_clips=count, seed=seed, scenes=scenes)
    for start in range(0, count, 1000):
        (folder / f"clips/unseen-{start // 1000:02d}").mkdir(parents=True)
    clips = [make_clip(folder, options, ("unseen", i)) for i in range(count)]
    return [(folder / clip.path, clip) for clip in clips]


def _other_clips(
    folder: Path, count: int, seed: int, videos: Sequence[Path]
) -> list[tuple[Path, Subject]]:
    clips = folder / "other"
    clips.mkdir()
    names = {"rotating clockwise": "clockwise", "rotating anticlockwise": "anticlockwise"}
    drawn = draw_clips(clips, count, seed, stills_of(videos))
    return [
        (path, Subject(colour, shape, names.get(motion, motion.removeprefix("moving "))))
        for path, (colour, shape, motion) in drawn
    ]


def _share(client: httpx.Client, asked: Sequence[Question]) -> tuple[int, int]:
    """Count how many of the questions are answered right."""
    right = 0
    for question in asked:
        with question.clip.open("rb") as stream:
            answer = client.post(
                "/classify",
                files={"video": stream},
                data={"labels": json.dumps(question.labels), "top_k": "1"},
            )
        answer.raise_for_status()
        right += answer.json()["predictions"][0]["label"] == question.right
    return right, len(asked)


@contextmanager
def _server(bundle: Path | None) -> Iterator[httpx.Client]:
    """Start a server on a free port; return it, ready, and a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "--port", str(port)]
    command += ["--bundle", str(bundle)] if bundle else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server did not get ready: start it by hand to see why")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
