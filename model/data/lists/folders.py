"""A set out of folders: one folder a class, or `train` and `val` with such folders in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.data.errors import DataError
from model.data.lists.labels import LabelList, write_labels

ENDINGS = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
    ".3gp", ".gif",
}  # fmt: skip
Pairs = list[tuple[str, str]]  # path below the root, label


@dataclass(frozen=True)
class Split:
    """What was found below a folder, cut in two; folders that hold no clip to train on."""

    labels: LabelList
    train: Pairs
    val: Pairs
    empty: tuple[str, ...] = ()


def split_folders(root: Path, val_share: float, seed: int) -> Split:
    """The clips below `root` with their folders as labels.

    Where there are `train` and `val` they are the two parts; else a share of each class is drawn
    for `val`, at least one clip of a class that has two. DataError where nothing is found.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder")
    top = root
    if (root / "train").is_dir() and (root / "val").is_dir():
        top = root / "train"
        train, val = _pairs(root, top), _pairs(root, root / "val")
    else:
        train, val = _drawn(_pairs(root, root), val_share, seed)
    if not train:
        raise DataError(
            f"{root} holds no folders with clips ({', '.join(sorted(ENDINGS))}): make one folder "
            "for each label and put its clips there"
        )
    try:
        labels = LabelList.of(label for _, label in (*train, *val))
    except ValueError as error:
        raise DataError(f"{root}: {error}") from None
    filled = {label for _, label in train}
    empty = tuple(folder.name for folder in _folders(top) if folder.name not in filled)
    return Split(labels, train, val, empty)


def write_split(split: Split, folder: Path) -> list[Path]:
    """`labels.csv`, `train.csv` and `val.csv` in a folder; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "labels.csv", folder / "train.csv"]
    write_labels(files[0], split.labels.names)
    _write(files[1], split.train)
    if split.val:
        files.append(folder / "val.csv")
        _write(files[2], split.val)
    return files


def _pairs(root: Path, top: Path) -> Pairs:
    return [
        (str(file.relative_to(root)), folder.name)
        for folder in _folders(top)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in ENDINGS and file.is_file()
    ]


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir())


def _drawn(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    by_label: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        by_label.setdefault(pair[1], []).append(pair)
    train: Pairs = []
    val: Pairs = []
    for place, own in enumerate(by_label.values()):
        order = np.random.default_rng((seed, place)).permutation(len(own))
        count = min(max(round(share * len(own)), 1), len(own) - 1) if share else 0
        held = {int(i) for i in order[:count]}
        val += [pair for i, pair in enumerate(own) if i in held]
        train += [pair for i, pair in enumerate(own) if i not in held]
    return train, val


def _write(file: Path, pairs: Sequence[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        writer.writerows(pairs)
