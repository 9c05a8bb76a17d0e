"""What an evaluation found. N clips, K labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.frames.reading import Broken


@dataclass(frozen=True)
class Scores:
    """Scores (N,K) of the clips with these places in the list, and their classes (N,).

    A score is the mean over the views of the softmax over the labels. `broken` are the clips that
    could not be decoded: they are in no figure but their own count.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    truth: NDArray[np.int64]
    broken: tuple[Broken, ...] = ()

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the highest score; of equal ones the first."""
        return self.scores.argmax(axis=1).astype(np.int64)

    def top(self, k: int) -> float:
        """Share of clips whose class is among the k highest scores."""
        if not len(self.truth):
            return float("nan")
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :k]
        return float((order == self.truth[:, None]).any(axis=1).mean())

    def confusion(self) -> NDArray[np.int64]:
        """Return clips of class i that were taken for class j, (K,K)."""
        classes = self.scores.shape[1]
        matrix = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return matrix

    def most_confused(self, pairs: int = 10) -> list[tuple[int, int, int]]:
        """List (class, taken for, clips), the most frequent mistakes first."""
        matrix = self.confusion()
        np.fill_diagonal(matrix, 0)
        order = np.argsort(-matrix, axis=None, kind="stable")[:pairs]
        rows, columns = np.unravel_index(order, matrix.shape)
        return [
            (int(i), int(j), int(matrix[i, j]))
            for i, j in zip(rows, columns, strict=True)
            if matrix[i, j]
        ]


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """Join the parts of several processes in the order of the list; no clip twice."""
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices, kind="stable")
    assert len(np.unique(indices)) == len(indices), "a clip was scored twice"
    return Scores(
        indices[order],
        np.concatenate([part.scores for part in parts])[order],
        np.concatenate([part.truth for part in parts])[order],
        tuple(broken for part in parts for broken in part.broken),
    )
