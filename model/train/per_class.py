"""What an evaluation says of each class, and how far its scores can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluate.scores import Scores

BINS = 10


@dataclass(frozen=True)
class ClassFigures:
    """A class: its clips, how many clips were taken for it, and how many of these rightly.

    `precision` is the share of what was taken for it that is it, `recall` the share of its clips
    that was known; None where there is nothing to take a share of.
    """

    label: str
    clips: int
    taken: int
    right: int

    @property
    def precision(self) -> float | None:
        """From 0 to 1."""
        return self.right / self.taken if self.taken else None

    @property
    def recall(self) -> float | None:
        """From 0 to 1."""
        return self.right / self.clips if self.clips else None


def class_figures(scores: Scores, labels: Sequence[str]) -> list[ClassFigures]:
    """Count for each class, in the order of classes."""
    matrix = scores.confusion()
    clips, taken = matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        ClassFigures(label, int(clips[i]), int(taken[i]), int(matrix[i, i]))
        for i, label in enumerate(labels)
    ]


@dataclass(frozen=True)
class Calibration:
    """Bins of the highest score: the mean score, the share that was right, and the clips in it.

    `error` is the expected calibration error: how far scores and shares are apart in the mean.
    """

    scores: tuple[float, ...]
    right: tuple[float, ...]
    clips: tuple[int, ...]
    error: float


def calibration(scores: Scores) -> Calibration:
    """Compare the highest scores with how often they were right; scores of N clips, N > 0."""
    highest, right = scores.scores.max(axis=1), scores.predicted == scores.truth
    bins = np.minimum((highest * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    means = [float(highest[bins == n].mean()) for n in filled]
    shares = [float(right[bins == n].mean()) for n in filled]
    counts = [int((bins == n).sum()) for n in filled]
    apart = [n * abs(a - b) for n, a, b in zip(counts, means, shares, strict=True)]
    return Calibration(tuple(means), tuple(shares), tuple(counts), sum(apart) / len(scores.truth))
