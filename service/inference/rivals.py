"""What each of the labels asked about may be taken for: the half of the others most like it.

A clip that shows two things has two labels far above those that resemble either. V views, K labels,
R rivals of each, D vector length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from export.bundle.calibration import Contrast
from service.contract.request import Question
from service.inference.negatives import cosines, evenly

Array = NDArray[np.float64]
Rivals = NDArray[np.intp]

COMPARED = 200  # labels that each is compared with: of more, so many evenly spaced


def contrast_of(question: Question, manifest: BundleManifest) -> Contrast | None:
    """Return how logits are compared with those of rivals; None where each counts by itself."""
    if question.scores != "sigmoid" or manifest.native_sigmoid or manifest.calibration is None:
        return None
    return manifest.calibration.contrast


def nearest_rivals(vectors: NDArray[np.float32]) -> Rivals:
    """Return the indices (K,R) of the labels whose vectors (K,D) are most like each label's."""
    some = np.array(evenly(len(vectors), COMPARED))
    likeness = cosines(vectors, vectors[some])
    likeness[some, np.arange(len(some))] = -np.inf  # a label is no rival of its own
    order = np.argsort(-likeness, axis=1, kind="stable")
    return np.asarray(some[order[:, : len(some) // 2]])


def rivals_together(logits: Array, rivals: Rivals) -> Array:
    """Return the logarithm of the summed exponentials of each label's rivals, (V,K)."""
    return np.stack([np.logaddexp.reduce(view[rivals], axis=1) for view in logits])
