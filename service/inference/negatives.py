"""Labels that a question does not mean: what a clip may show where it shows none of those asked.

K labels, N negatives, D vector length.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from export.bundle import LabelSet
from model.inputs import label_key
from service.contract.errors import ApiError

FILE = "negative_labels.json"
STORED = 320  # labels of the bundle's own lists that join those of the package
COMPARED = 200  # labels of a question that negatives are kept apart from
KEPT = 0.8  # share of the negatives: those farthest from the labels


@cache
def package_negatives() -> tuple[str, ...]:
    """Return the list that comes in the package."""
    text = importlib.resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return tuple(json.loads(text)["labels"])


@dataclass(frozen=True)
class NegativeLabels:
    """Names of N negative labels, and their vectors (N,D)."""

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def far_from(self, labels: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors (M,D) of those that mean something else than K labels (K,D).

        They are the four fifths whose largest cosine to a label is lowest; of more than COMPARED
        labels so many are looked at, evenly spaced. A negative that is one of the labels is none.

        Raises:
            ApiError: `bad_field`: every negative is one of the labels.
        """
        asked = {label_key(label) for label in labels}
        others = [i for i, name in enumerate(self.labels) if label_key(name) not in asked]
        if not others:
            raise ApiError(
                "bad_field",
                "open_set has nothing to compare with: the labels are all that stands for what is "
                "not asked; ask about fewer",
            )
        negatives = self.vectors[others]
        some = evenly(len(vectors), COMPARED)
        nearest = cosines(negatives, vectors[some]).max(axis=1)
        count = max(1, round(KEPT * len(negatives)))
        return negatives[np.sort(np.argsort(nearest, kind="stable")[:count])]


def with_stored(vectors: NDArray[np.float32], stored: Mapping[str, LabelSet]) -> NegativeLabels:
    """Join the package's negatives, whose vectors (N,D) these are, and labels of stored lists."""
    names, parts = list(package_negatives()), [vectors]
    known = {label_key(name) for name in names}
    for labels in stored.values():
        rows = evenly(len(labels.labels), STORED // len(stored))
        new = [i for i in rows if label_key(labels.labels[i]) not in known]
        known |= {label_key(labels.labels[i]) for i in new}
        names += [labels.labels[i] for i in new]
        parts.append(labels.vectors[new])
    return NegativeLabels(tuple(names), np.concatenate(parts))


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many of `count` indices, evenly spaced."""
    return [i * count // min(count, most) for i in range(min(count, most))]


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare rows (N,D) with rows (K,D): (N,K); without BLAS, as in `nearest`."""
    tiny = np.finfo(np.float32).tiny
    a = a / np.maximum(np.sqrt(np.einsum("nd,nd->n", a, a))[:, None], tiny)
    b = b / np.maximum(np.sqrt(np.einsum("kd,kd->k", b, b))[:, None], tiny)
    return np.asarray(np.einsum("nd,kd->nk", a, b))
