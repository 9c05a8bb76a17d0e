"""Arithmetic of a comparison: intervals, tests, agreement. N clips, K labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model.evaluate.scores import Scores

Z_95 = 1.959963984540054  # of the normal distribution, two-sided


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927): from 0 to 1 also where all are right."""
    if not of:
        return 0.0, 1.0
    share, square = right / of, Z_95**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z_95 * math.sqrt(share * (1 - share) / of + square / (4 * of**2)) / (1 + square / of)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return how probable a difference like this is where two networks are equally good.

    McNemar's exact test: only the clips count that one has right and the other wrong; of them
    half would go to each side.

    Args:
        first: Whether each clip is right by one network, bool (N,).
        second: The same by the other.

    Returns:
        The two-sided p, 0 to 1.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, less = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(less + 1))
    return min(1.0, 2 * tail / 2**n)


def right_in_top(scores: Scores, k: int) -> NDArray[np.bool_]:
    """Tell of each clip whether its label is among the k highest scores, bool (N,)."""
    order = np.argsort(-scores.scores, axis=1, kind="stable")[:, :k]
    return (order == scores.truth[:, None]).any(axis=1)


def macro_accuracy(scores: Scores) -> float:
    """Return the mean over the classes that have clips of the share that is right, 0 to 1."""
    matrix = scores.confusion()
    counts = matrix.sum(axis=1)
    there = counts > 0
    return float((matrix.diagonal()[there] / counts[there]).mean()) if there.any() else math.nan


def agreement(predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of clips that each two networks name alike, (M,M) for classes (M,N)."""
    return (predicted[:, None, :] == predicted[None, :, :]).mean(axis=2)
