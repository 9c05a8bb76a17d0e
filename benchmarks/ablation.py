"""What each part of X-CLIP adds, on moving shapes: the same start, data and budget for all.

    python -m benchmarks.ablation [--epochs 0.3] [--seeds 3] [--jobs 2]

Every network starts from the demo that comes in the package, of which it keeps the towers and the
integration transformer, if it is to have one: to find out about order from nothing takes longer
than all of this. Prompts and messages begin with first values. Then all are trained with
configs/demo.yaml, shortened, and asked about clips of unseen combinations under 24 labels. A label
against its opposite in time is asked about fresh clips of things that training shows both ways:
where it shows one, colour and shape give the answer away. Needs the clips of `make demo` in
build/shapes. Runs that are there are not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib import questions
from benchmarks.lib.questions import Question
from benchmarks.lib.timing import machine
from model.checkpoint import read_checkpoint
from model.checkpoints.clip_start import BARE, with_parts
from model.checkpoints.native import save_checkpoint
from model.command_line import Parser
from model.data.shapes.dataset import ShapeClip
from model.data.shapes.vocabulary import OPPOSITES, Subject, all_subjects, may_be_trained_on
from model.data.shapes.wordings import plain_label
from model.evaluate.scorer import TorchScorer
from model.inputs import InputSpec, Tokenizer, decode_clip

ROOT = Path(__file__).resolve().parent.parent
RUNS, SHAPES = ROOT / "build" / "ablation", ROOT / "build" / "shapes"
RESULT = ROOT / "docs" / "benchmarks" / "ablation.json"
DEMO, START = ROOT / "model" / "demo", RUNS / "start"
FULL = {"mit_layers": 1, "prompt_layers": 1, "cross_frame_messages": True}
VARIANTS = {
    "X-CLIP": FULL,
    "without MIT": FULL | {"mit_layers": 0},
    "without cross-frame messages": FULL | {"cross_frame_messages": False},
    "without video-specific prompts": FULL | {"prompt_layers": 0},
    "frame-averaged CLIP": BARE,
}
BATCH, AT_ONCE = 32, 16


@dataclass(frozen=True)
class Decoded:
    """Clips with what they show and their frames (N,T,H,W,3) uint8."""

    clips: list[tuple[Path, ShapeClip]]
    frames: NDArray[np.uint8]


def main(argv: Sequence[str]) -> int:
    """Train what is missing, ask everybody, print and write the table."""
    given = _parser().parse_args(argv)
    _save_start()
    jobs = [(name, seed) for seed in range(given.seeds) for name in VARIANTS]
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(partial(_train, epochs=given.epochs), jobs))
    inputs = read_checkpoint(START).net.inputs  # of all of them
    unseen = _decoded(inputs, _clips("unseen"))
    both_ways = _decoded(
        inputs, ((path, clip) for path, clip in _clips("val") if _shown_both_ways(clip.subject))
    )
    results_of = {
        name: [_asked(_folder(name, s), unseen, both_ways) for s in range(given.seeds)]
        for name in VARIANTS
    }
    rows = {name: _summary(results) for name, results in results_of.items()}
    print(_table(rows))
    content = {
        "command": f"python -m benchmarks.ablation --epochs {given.epochs} --seeds {given.seeds}",
        "machine": machine(),
        "unseen clips": len(unseen.clips),
        "clips of opposites": len(both_ways.clips),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.ablation")
    parser.add_argument("--epochs", type=float, default=0.3, help="of the training clips (0.3)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    return parser


def _folder(name: str, seed: int) -> Path:
    return RUNS / f"{name.replace(' ', '-')}-{seed}"


def _save_start() -> None:
    """Return the demo without what its prompts and messages have learned."""
    checkpoint = read_checkpoint(DEMO)
    net, _ = with_parts(checkpoint.net, {**BARE, "mit_layers": FULL["mit_layers"]}, seed=0)
    save_checkpoint(
        net, START, name="start", source="the demo", tokenizer=checkpoint.tokenizer, overwrite=True
    )


def _train(job: tuple[str, int], epochs: float) -> None:
    name, seed = job
    if (_folder(name, seed) / "checkpoint").exists():
        return
    command = [sys.executable, "-m", "model.train", "--config", "configs/demo.yaml"]
    command += ["--output", str(_folder(name, seed)), "--seed", str(seed), "--compute.threads", "1"]
    command += ["--start.source", str(START)]
    command += ["--schedule.epochs", str(epochs), "--schedule.warmup_epochs", "0.05"]
    command += ["--batch.size", str(BATCH)]
    command += [f"--start.parts.{part}={value}" for part, value in VARIANTS[name].items()]
    subprocess.run(command, cwd=ROOT, check=True)


def _clips(table: str) -> Iterator[tuple[Path, ShapeClip]]:
    subjects = {plain_label(subject): subject for subject in all_subjects()}
    with (SHAPES / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            captions = tuple(json.loads(row["captions"]))
            yield SHAPES / row["path"], ShapeClip(row["path"], subjects[row["label"]], captions)


def _shown_both_ways(subject: Subject) -> bool:
    opposite = Subject(subject.colour, subject.outline, questions.OPPOSITE[subject.motion])
    return may_be_trained_on(subject) and may_be_trained_on(opposite)


def _asked(run: Path, unseen: Decoded, both_ways: Decoded) -> dict[str, float]:
    """Count right answers, by question, and of opposites by pair; return their shares."""
    checkpoint = read_checkpoint(run / "checkpoint")
    scorer = TorchScorer(checkpoint.net, checkpoint.tokenizer or Tokenizer.clip())
    rng = np.random.default_rng(0)
    plain = _right(scorer, unseen, [questions.plain(rng, *clip) for clip in unseen.clips])
    pairs = _right(scorer, both_ways, [questions.pair(*clip) for clip in both_ways.clips])
    result = {"unseen combinations": plain.mean(), "opposites in time": pairs.mean()}
    for pair in OPPOSITES:
        of_pair = np.array([clip.subject.motion in pair for _, clip in both_ways.clips])
        result["/".join(pair)] = pairs[of_pair].mean()
    return {name: float(value) for name, value in result.items()}


def _decoded(inputs: InputSpec, clips: Iterable[tuple[Path, ShapeClip]]) -> Decoded:
    listed, frames = list(clips), []
    for path, _ in listed:
        with path.open("rb") as stream:
            frames.append(decode_clip(stream, inputs).frames)
    return Decoded(listed, np.concatenate(frames))


def _right(scorer: TorchScorer, decoded: Decoded, asked: list[Question]) -> NDArray[np.bool_]:
    frames = decoded.frames
    texts = sorted({label for question in asked for label in question.labels})
    index = {text: i for i, text in enumerate(texts)}
    vectors = scorer.texts(texts)
    parts = range(0, len(frames), AT_ONCE)
    logits = np.concatenate([scorer.logits(frames[i : i + AT_ONCE], vectors) for i in parts])
    best = [
        question.labels[int(np.argmax(row[[index[label] for label in question.labels]]))]
        for question, row in zip(asked, logits, strict=True)
    ]
    return np.array([b == q.right for b, q in zip(best, asked, strict=True)])


def _summary(results: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "mean": mean(values := [result[name] for result in results]),
            "std": stdev(values) if len(values) > 1 else 0.0,
        }
        for name in results[0]
    }


def _table(rows: dict[str, dict[str, Any]]) -> str:
    """Format the shares as Markdown, in per cent."""
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        cells = [f"{100 * row[c]['mean']:.1f} ± {100 * row[c]['std']:.1f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
