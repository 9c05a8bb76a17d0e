"""What an evaluation found out about each class and each clip."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from model.data.lists.cliplist import ClipList
from model.evaluate.scores import Scores


@dataclass(frozen=True)
class ClassResult:
    """A class: the clips that were scored, those right at once, and their share in percent."""

    label: str
    clips: int
    right: int
    top1: float


@dataclass(frozen=True)
class ClipResult:
    """A clip: what it is, what it was taken for with which score, and the rank of its own label.

    A clip that could not be decoded has an `error` instead.
    """

    list: str
    path: str
    label: str
    predicted: str | None = None
    score: float | None = None
    label_score: float | None = None
    rank: int | None = None
    error: str | None = None


def class_results(scores: Scores, labels: Sequence[str]) -> tuple[ClassResult, ...]:
    """Count what was right of each class that has clips, in the order of classes."""
    matrix = scores.confusion()
    counts = matrix.sum(axis=1)
    return tuple(
        ClassResult(label, int(n), int(matrix[i, i]), 100 * float(matrix[i, i] / n))
        for i, (label, n) in enumerate(zip(labels, counts, strict=True))
        if n
    )


def clip_results(name: str, scores: Scores, clips: ClipList) -> tuple[ClipResult, ...]:
    """Describe every clip of a list, those that were scored first, in the order of the list."""
    labels = clips.labels.names
    predicted = scores.predicted
    own = scores.scores[np.arange(len(scores.truth)), scores.truth]
    ranks = 1 + (scores.scores > own[:, None]).sum(axis=1)
    scored = [
        ClipResult(
            name,
            clips.samples[index].name,
            labels[scores.truth[row]],
            labels[predicted[row]],
            round(float(scores.scores[row, predicted[row]]), 6),
            round(float(own[row]), 6),
            int(ranks[row]),
        )
        for row, index in enumerate(scores.indices.tolist())
    ]
    label_of = {sample.name: labels[sample.label] for sample in clips.samples}
    broken = [ClipResult(name, b.name, label_of[b.name], error=b.reason) for b in scores.broken]
    return tuple(scored + broken)


def write_clips(file: Path, clips: Sequence[ClipResult]) -> None:
    """Write a row for each clip: CSV, or a JSON list where the file is called so."""
    rows = [asdict(clip) for clip in clips]
    if file.suffix.lower() == ".json":
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(ClipResult)])
        writer.writeheader()
        writer.writerows(rows)
