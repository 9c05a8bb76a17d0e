"""How often a shortlist's best labels are those of scoring every label, and what it saves.

    python -m benchmarks.shortlist [--bundle DIR] [--clips 200] [--lengths 10 20 50 100 200 500]

Fresh clips of moving shapes that training never saw, with every way to say every shape, colour and
motion as labels (thousands). A label's logit does not depend on what else is scored, so each clip
is scored once against all labels, and a shortlist keeps of that what plain cosine leaves in.

top-1: the best label of all is the best of the shortlist. top-5: share of the best five of all that
are in the shortlist. Both also for the 320 plain labels alone. The share of time is that of finding
and scoring the shortlist, against scoring all, in turns on the same clip.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib.timing import publish, take_turns
from export.bundle import open_bundle
from export.runtime import Features
from export.scoring import BundleScorer
from model.command_line import Parser
from model.data.shapes import plain_label
from model.data.shapes.dataset import ShapesOptions, make_clip
from model.data.shapes.scene import SceneOptions
from model.data.shapes.vocabulary import all_subjects
from model.data.shapes.wordings import held_out_wordings, wordings
from model.inputs import decode_clip
from service.inference.shortlist import VIDEO, can_compare, nearest
from service.settings import DEMO_BUNDLE

LENGTHS, BEST = (10, 20, 50, 100, 200, 500), 5


def main(arguments: Sequence[str]) -> int:
    """Draw the clips, score them, print and write the agreement."""
    given = _parser().parse_args(arguments)
    if not can_compare(open_bundle(given.bundle).manifest):
        print("benchmarks.shortlist: this network gives no clip vector to compare labels with")
        return 2
    scorer = BundleScorer(given.bundle)
    lists = label_lists()
    texts = {name: scorer.texts(labels) for name, labels in lists.items()}
    frames = drawn(scorer, given.clips, given.seed)
    clips = [scorer.runtime.encode_video(clip) for clip in frames]
    rows = [
        row
        for name, text in texts.items()
        for row in measured(scorer, name, text, clips, given.lengths, given.rounds)
    ]
    publish(
        "shortlist",
        f"python -m benchmarks.shortlist --clips {given.clips} --seed {given.seed}",
        rows,
        model=scorer.name,
        clips=given.clips,
    )
    return 0


def label_lists() -> dict[str, list[str]]:
    """Return the plain labels; and with them every wording, seen in training or not."""
    subjects = all_subjects()
    plain = [plain_label(subject) for subject in subjects]
    worded = (w for s in subjects for w in (*wordings(s), *held_out_wordings(s)))
    return {"plain": plain, "every wording": list(dict.fromkeys([*plain, *worded]))}


def drawn(scorer: BundleScorer, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Draw frames (1,T,H,W,3) of combinations that were kept out of training."""
    options = ShapesOptions(
        clips=0, unseen_clips=count, seed=seed, scenes=SceneOptions(short_side=(64, 480))
    )
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, count, 1000):
            (Path(folder) / f"clips/unseen-{start // 1000:02d}").mkdir(parents=True)
        for index in range(count):
            clip = make_clip(Path(folder), options, ("unseen", index))
            with (Path(folder) / clip.path).open("rb") as file:
                frames.append(decode_clip(file, scorer.inputs).frames)
    return frames


def measured(
    scorer: BundleScorer,
    name: str,
    text: NDArray[np.float32],
    clips: Sequence[Features],
    lengths: Sequence[int],
    rounds: int,
) -> list[dict[str, Any]]:
    """Measure each length of the shortlist; return a line for each."""
    exact = [scorer.runtime.score(features, text[None])[0] for features in clips]
    rows = []
    for length in (length for length in lengths if length < len(text)):
        kept = [nearest(features[VIDEO], text, length) for features in clips]
        best = [np.argsort(-logits, kind="stable")[:BEST] for logits in exact]
        first = [b[0] in near for b, near in zip(best, kept, strict=True)]
        five = [np.isin(b, near).mean() for b, near in zip(best, kept, strict=True)]
        rows.append(
            {
                "labels": f"{name}, {len(text)}",
                "shortlist": length,
                "top-1": float(np.mean(first)),
                "top-5": float(np.mean(five)),
                "share of time": _share_of_time(scorer, clips[0], text, length, rounds),
            }
        )
    return rows


def _share_of_time(
    scorer: BundleScorer, features: Features, text: NDArray[np.float32], length: int, rounds: int
) -> float:
    def short() -> None:
        near = nearest(features[VIDEO], text, length)
        scorer.runtime.score(features, text[near][None])

    def everything() -> None:
        scorer.runtime.score(features, text[None])

    timings = take_turns({"short": short, "everything": everything}, rounds)
    return timings["short"].median_ms / timings["everything"].median_ms


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.shortlist")
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLE, help="default: embedded")
    parser.add_argument("--clips", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of the shortlist")
    parser.add_argument("--rounds", type=int, default=7, help="of timing (7)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
