"""How far `open_set`, `coverage` and `scores=sigmoid` can be trusted, on clips of moving shapes.

    python -m benchmarks.answers [--bundle DIR] [--clips 300] [--seed 77]

Clips of combinations that were kept out of training. A copy of the bundle is calibrated on half of
them (`xclip-serve calibrate`: five folds); the other half is asked about 24 labels, with the right
one among them and without, before and after. Clips that show two shapes are scored by softmax and
by sigmoid.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bundle import open_bundle
from model.command_line import Parser
from model.data.shapes import Subject, plain_label
from model.data.shapes.dataset import ShapeClip, ShapesOptions, make_clip
from model.data.shapes.drawing import draw_frames
from model.data.shapes.files import write_video
from model.data.shapes.scene import Scene, SceneOptions, draw_scene
from model.data.shapes.vocabulary import all_subjects, is_held_out
from model.data.shapes.wordings import still_label
from service.settings import DEMO_BUNDLE
from xclip_serve import Classification, Classifier
from xclip_serve.calibration.figures import auroc, fpr95
from xclip_serve.verbs.calibrate import main as calibrate

LABELS = 24
SIDE = 128  # of clips with two shapes
FAMILIES = ("all attributes", "one attribute")
RESULT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "answers.json"

Clips = Sequence[tuple[Path, ShapeClip]]


def main(argv: Sequence[str]) -> int:
    """Draw, calibrate, ask, print and write."""
    given = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clips = _unseen(folder, 2 * given.clips, given.seed)
        fitted, held = clips[: given.clips], clips[given.clips :]
        bundle = folder / "calibrated"
        shutil.copytree(given.bundle, bundle)
        rows = [(path, [plain_label(clip.subject)]) for path, clip in fitted]
        if calibrate([str(bundle), "--list", str(_list(folder / "val.csv", rows))]):
            return 1
        calibration = open_bundle(bundle).manifest.calibration
        assert calibration is not None
        content = {
            "model": open_bundle(bundle).manifest.name,
            "clips": given.clips,
            "seed": given.seed,
            "calibration": calibration.model_dump(mode="json", exclude={"conformal"}),
            "absent label": {
                "before": _absent(given.bundle, held, given.seed),
                "after": _absent(bundle, held, given.seed),
            },
            "two shapes": _two_shapes(folder, bundle, given.clips, given.seed),
        }
    print(json.dumps(content, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.answers", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLE, help="default: the demo")
    parser.add_argument("--clips", type=int, default=300, help="of each kind (300)")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    return parser


def _unseen(folder: Path, count: int, seed: int) -> list[tuple[Path, ShapeClip]]:
    options = ShapesOptions(clips=0, unseen_clips=count, seed=seed)
    for start in range(0, count, 1000):
        (folder / f"clips/unseen-{start // 1000:02d}").mkdir(parents=True)
    drawn = [make_clip(folder, options, ("unseen", i)) for i in range(count)]
    return [(folder / clip.path, clip) for clip in drawn]


def _list(file: Path, clips: Iterable[tuple[Path, Sequence[str]]]) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        writer.writerows((path, label) for path, labels in clips for label in labels)
    return file


# --- none of these ------------------------------------------------------------------------------


def _absent(bundle: Path, clips: Clips, seed: int) -> dict[str, dict[str, float]]:
    """Compare `none_of_these` with the right label among 24 and without it.

    The others differ from the clip in all attributes; without the right one, in the second family,
    one of them differs in one attribute.
    """
    rng = np.random.default_rng(seed)
    known: list[float] = []
    unknown: dict[str, list[float]] = {family: [] for family in FAMILIES}
    with Classifier(bundle) as network:
        for path, clip in clips:
            subject = clip.subject
            far = [plain_label(other) for other in all_subjects() if _differs(other, subject) == 3]
            labels = [str(label) for label in rng.choice(far, LABELS, replace=False)]
            near = [plain_label(other) for other in all_subjects() if _differs(other, subject) == 1]
            false = [label for label in near if label not in clip.captions]
            one = false[int(rng.integers(len(false)))]
            answer = network.classify(path, [plain_label(subject), *labels[1:]], open_set=True)
            known.append(_odds_of_known(answer))
            for family, asked in zip(FAMILIES, (labels, [one, *labels[1:]]), strict=True):
                answer = network.classify(video_id=answer.video_id, labels=asked, open_set=True)
                unknown[family].append(_odds_of_known(answer))
    return {
        family: {
            "auroc": auroc(np.array(known), np.array(values)),
            "fpr95": fpr95(np.array(known), np.array(values)),
        }
        for family, values in unknown.items()
    }


def _odds_of_known(answer: Classification) -> float:
    assert answer.none_of_these is not None
    return -answer.none_of_these


def _differs(a: Subject, b: Subject) -> int:
    return (a.colour != b.colour) + (a.outline != b.outline) + (a.motion != b.motion)


# --- several at once ----------------------------------------------------------------------------


def _two_shapes(folder: Path, bundle: Path, count: int, seed: int) -> dict[str, dict[str, float]]:
    """Return mean average precision over the labels, of clips that show two of them.

    The labels tell colour, shape and motion, or colour and shape alone.
    """
    rng = np.random.default_rng([seed, 1])
    subjects = [s for s in all_subjects() if is_held_out(s)]
    shown = []
    for row in range(count):
        pair = [subjects[i] for i in rng.choice(len(subjects), 2, replace=False)]
        path = folder / f"two-{row}.mp4"
        _draw_two(rng, path, *pair)
        shown.append((path, pair))
    with Classifier(bundle) as network:
        return {
            "colour, shape, motion": _precisions(network, shown, subjects, plain_label),
            "colour, shape": _precisions(network, shown, subjects, still_label),
        }


def _precisions(
    network: Classifier,
    clips: Sequence[tuple[Path, Sequence[Subject]]],
    subjects: Sequence[Subject],
    label_of: Callable[[Subject], str],
) -> dict[str, float]:
    names = list(dict.fromkeys(map(label_of, subjects)))
    truth = np.zeros((len(clips), len(names)), np.bool_)
    scores = {kind: np.zeros(truth.shape) for kind in ("softmax", "sigmoid")}
    for row, (path, pair) in enumerate(clips):
        truth[row, [names.index(label_of(subject)) for subject in pair]] = True
        for kind, table in scores.items():
            for prediction in network.classify(path, names, scores=kind).predictions:
                table[row, prediction.index] = prediction.score
    over_clips = {kind: _mean_average_precision(table, truth) for kind, table in scores.items()}
    over_labels = {
        f"{kind}, of each clip": _mean_average_precision(table.T, truth.T)
        for kind, table in scores.items()
    }
    return over_clips | over_labels


def _draw_two(rng: np.random.Generator, path: Path, first: Subject, second: Subject) -> None:
    """Draw a clip in which two things move."""
    below, above = _square(rng, first), _square(rng, second)
    times = np.linspace(0, 1, below.frames)
    empty = above.background[above.margin :, above.margin :][:SIDE, :SIDE]

    def frames() -> Iterable[NDArray[np.uint8]]:
        for under, over in zip(draw_frames(below), draw_frames(above, times), strict=True):
            shown = (over != empty).any(axis=2, keepdims=True)
            yield np.where(shown, over, under)

    write_video(path, frames(), rate=below.rate)


def _square(rng: np.random.Generator, subject: Subject) -> Scene:
    while True:
        scene = draw_scene(rng, subject, SceneOptions(short_side=(SIDE, SIDE)))
        if scene.size == (SIDE, SIDE):
            return replace(scene, distractors=(), pan=(0, 0), shake=0.0, noise=0.0, blur=0.0)


def _mean_average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Average over the labels that occur, each over the clips in the order of its score.

    Transposed, over the clips, each over its labels.
    """
    precisions = []
    for column in range(truth.shape[1]):
        right = truth[np.argsort(-scores[:, column], kind="stable"), column]
        if right.any():
            hits = np.cumsum(right)
            precisions.append((hits / np.arange(1, len(right) + 1))[right].mean())
    return float(np.mean(precisions))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
