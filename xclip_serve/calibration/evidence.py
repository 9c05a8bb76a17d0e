"""What a network gave for clips whose labels are known. N clips, K labels, M negative labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Logits of clips, and which labels are true of each.

    Attributes:
        logits: (N,K); -inf for a label that was not asked about.
        negatives: (N,M), of labels that the question does not mean.
        truth: bool (N,K); a row without any is a clip that shows none of the labels.
        rivals: (N,K), the logits of each label's rivals together.
    """

    logits: Array
    negatives: Array
    truth: NDArray[np.bool_]
    rivals: Array

    def __len__(self) -> int:
        return len(self.logits)

    def of(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Evidence:
        """Return some of the clips."""
        return Evidence(
            self.logits[rows], self.negatives[rows], self.truth[rows], self.rivals[rows]
        )

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Which clips show one of the labels, (N,)."""
        return np.asarray(self.truth.any(axis=1))

    @property
    def single(self) -> Evidence:
        """The clips of which exactly one label is true."""
        return self.of(self.truth.sum(axis=1) == 1)

    def without_truth(self) -> Evidence:
        """Return the known clips as they look where nobody asks for what they show.

        Those that leave less than two labels to ask about are left out.
        """
        known = self.of(self.is_known & ((~self.truth).sum(axis=1) > 1))
        hidden = np.where(known.truth, -np.inf, known.logits)
        return Evidence(hidden, known.negatives, np.zeros_like(known.truth), known.rivals)


def joined(*parts: Evidence) -> Evidence:
    """Return the clips of all parts."""
    return Evidence(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.negatives for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.rivals for part in parts]),
    )
