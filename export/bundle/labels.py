"""Stored label lists: labels, the prompts they became, and their vectors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from export.bundle.errors import BundleError
from export.bundle.manifest import LabelSetInfo

FOLDER = "labels"
TENSOR = "vectors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class LabelSet:
    """A list of labels in class order, with `vectors` float32 (K, D), before any prompt head."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.prompts) == len(self.vectors):
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
    text = {"labels": labels.labels, "prompts": labels.prompts}
    (folder / info.prompts).write_text(
        json.dumps(text, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    return info


def read_label_set(folder: Path, info: LabelSetInfo) -> LabelSet:
    """Read a stored label list."""
    try:
        text = json.loads((folder / info.prompts).read_text(encoding="utf-8"))
        vectors = load_file(folder / info.vectors)[TENSOR]
        return LabelSet(tuple(text["labels"]), tuple(text["prompts"]), vectors)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"{info.prompts} and {info.vectors} hold no label list ({error}); export again"
        ) from error
