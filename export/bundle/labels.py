"""Read and write stored label lists: labels, the prompts they became, and their vectors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from export.bundle.errors import BundleError
from export.bundle.manifest import LabelSetInfo
from model.inputs import check_templates

FOLDER = "labels"
TENSOR = "vectors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class LabelSet:
    """A list of labels in class order, with `vectors` float32 (K, D), before any prompt head.

    `prompts` are the texts that the vectors came from. With several `templates` each label has as
    many, one after the other, and its vector is their mean; else it has one.
    """

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    vectors: NDArray[np.float32]
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        each = max(len(self.templates), 1)
        if not len(self.labels) == len(self.prompts) / each == len(self.vectors):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.prompts)} prompts and "
                f"{len(self.vectors)} vectors do not belong together"
            )


def write_label_set(folder: Path, name: str, labels: LabelSet) -> LabelSetInfo:
    """Store a label list in the bundle folder."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"label list name {name!r} must be letters, digits, '.', '_' or '-' (64 at most)"
        )
    (folder / FOLDER).mkdir(exist_ok=True)
    info = LabelSetInfo(
        count=len(labels.labels),
        vectors=f"{FOLDER}/{name}.safetensors",
        prompts=f"{FOLDER}/{name}.json",
    )
    save_file({TENSOR: np.ascontiguousarray(labels.vectors)}, folder / info.vectors)
    text = {"labels": labels.labels, "prompts": labels.prompts, "templates": labels.templates}
    (folder / info.prompts).write_text(
        json.dumps(text, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    return info


def read_label_set(folder: Path, info: LabelSetInfo, dim: int) -> LabelSet:
    """Read a stored label list.

    Args:
        folder: The bundle.
        info: What its manifest says of the list.
        dim: Length D of the network's label vectors.

    Returns:
        `info.count` labels with vectors float32 (K,D), all of them finite.

    Raises:
        BundleError: The files do not hold that.
    """
    try:
        text = json.loads((folder / info.prompts).read_text(encoding="utf-8"))
        vectors = load_file(folder / info.vectors)[TENSOR]
        labels, prompts = _texts(text["labels"]), _texts(text["prompts"])
        templates = check_templates(_texts(text.get("templates", [])))
        _check_vectors(vectors, (info.count, dim))
        return LabelSet(labels, prompts, vectors, templates)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RecursionError) as error:
        raise BundleError(
            f"{info.prompts} and {info.vectors} hold no label list ({error}); export again"
        ) from error


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise ValueError("labels, prompts and templates must be lists of texts that are not empty")
    return tuple(values)


def _check_vectors(vectors: NDArray[Any], shape: tuple[int, int]) -> None:
    if vectors.dtype != np.float32 or vectors.shape != shape:
        raise ValueError(f"vectors must be float32 {shape}, not {vectors.dtype} {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold numbers that are not finite")
