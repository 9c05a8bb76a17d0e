"""A set out of folders: one a class, or folders for train, val and test with such in them."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.errors import DataError
from model.data.lists.folder_scan import (
    LeftOut,
    clips_in,
    folders_in,
    has_clips_itself,
    holds_clips,
    note_loose,
)
from model.data.lists.groups import NONE
from model.data.lists.holdout import Pairs, drawn
from model.data.lists.labels import LabelList, labels_text
from model.data.lists.names import VIDEO_ENDINGS, named, split_of
from model.inputs import label_key

LABELS, TRAIN, VAL, TEST = "labels.csv", "train.csv", "val.csv", "test.csv"


@dataclass(frozen=True)
class Split:
    """Clips found below a folder, by part, and what a person should know of the search."""

    labels: LabelList
    train: Pairs
    val: Pairs
    test: Pairs
    notes: tuple[str, ...] = ()
    held_back: bool = False
    """Whether a share of the clips was drawn for val."""


def split_folders(root: Path, val_share: float, seed: int, group_by: str = NONE) -> Split:
    """Find the clips below `root`, with their folders as labels.

    Where there are folders for train, val or test (also `training`, `valid`, `eval`, …, in any
    case) they are the parts. Where none is for val a share of the clips of `train` is drawn.

    Args:
        root: folder that the paths of the result start from.
        val_share: part of each class to draw for val, 0 to 1; at least one clip of a class that
            has two.
        seed: decides which.
        group_by: which clips stay together when a share is drawn; see `groups_of`.

    Raises:
        DataError: Nothing is found, or the folders can be read in more than one way.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder")
    left = LeftOut()
    notes: list[str] = []
    parts = _parts(root, left)
    pairs = {part: _pairs(root, top, left, notes) for part, top in parts.items()}
    train = pairs["train"]
    if not train:
        raise DataError(
            f"{root} holds no folders with clips ({', '.join(sorted(VIDEO_ENDINGS))}): make one "
            "folder for each label and put its clips there"
        )
    if "val" in pairs:
        val = pairs["val"]
    else:
        train, val = drawn(root, train, val_share, seed, group_by)
        if len(parts) > 1 and val:
            notes.append(f"there is no folder for val: {val_share:.0%} of train was drawn for it")
    test = pairs.get("test", [])
    labels = _labels(root, (*train, *val, *test), notes)
    _note_untrained(labels, train, notes)
    return Split(labels, train, val, test, (*notes, *left.lines()), "val" not in pairs)


def _parts(root: Path, left: LeftOut) -> dict[str, Path]:
    """Return the folder of each part; that of `train` is the root where there are no parts.

    A folder that is called `train` and holds clips itself is a label like another.
    """
    folders = folders_in(root, root, left)
    parts: dict[str, Path] = {}
    for folder in folders:
        part = split_of(folder.name)
        if part is None or has_clips_itself(folder) or not holds_clips(folder):
            continue
        if part in parts:
            raise DataError(
                f"{root} has two folders for {part}: {parts[part].name} and {folder.name}: join "
                "them, or rename one"
            )
        parts[part] = folder
    if not parts:
        _refuse_flat_parts(root, folders)
        return {"train": root}
    others = [f.name for f in folders if f not in parts.values() and holds_clips(f)]
    if others:
        raise DataError(
            f"{named(others)} in {root} beside {named([f.name for f in parts.values()])}: move "
            "the clips into these, or give a folder that has only labels, or only parts, in it"
        )
    if "train" not in parts:
        raise DataError(f"{root} has {named([f.name for f in parts.values()])} and no train")
    note_loose(root, root, left)
    return parts


def _refuse_flat_parts(root: Path, folders: Sequence[Path]) -> None:
    """Refuse `train` and `val` with clips and no labels in them, or below the labels."""
    filled = [folder for folder in folders if holds_clips(folder)]
    if filled and all(split_of(folder.name) for folder in filled):
        raise DataError(
            f"{named([f.name for f in filled])} in {root}: clips and no folders: put the clips "
            "of each label into a folder of its own there"
        )
    below = {
        part: f"{folder.name}/{sub.name}"
        for folder in filled
        for sub in folders_in(folder, root, LeftOut())
        if (part := split_of(sub.name)) and holds_clips(sub)
    }
    if len(below) > 1:
        raise DataError(
            f"{named(sorted(below.values()))}: train, val and test must lie above the labels, as "
            "in train/LABEL: move them, or rename them if they are no parts"
        )


def _pairs(root: Path, top: Path, left: LeftOut, notes: list[str]) -> Pairs:
    folders = folders_in(top, root, left)
    clips = {folder: clips_in(folder, root, left) for folder in folders}
    note_loose(top, root, left)
    filled = [folder for folder in folders if clips[folder]]
    if len(filled) == 1 and not has_clips_itself(filled[0]):
        raise DataError(
            f"{filled[0]} is the only folder with clips in {top}, and holds folders itself: one "
            f"folder too many? Give {filled[0]}"
        )
    empty = [folder.name for folder in folders if not clips[folder]]
    if empty:
        notes.append(f"left out, no clips in them ({len(empty)}): {named(empty)}")
    pairs = [(path, folder.name) for folder in filled for path in clips[folder]]
    deep = sorted({str(Path(path).parent) for path, _ in pairs if len(_below(path, root, top)) > 2})
    if deep:
        notes.append(f"folders in folders of labels, whose name is no label: {named(deep)}")
    return pairs


def _below(path: str, root: Path, top: Path) -> tuple[str, ...]:
    return (root / path).relative_to(top).parts


def _labels(root: Path, pairs: Sequence[tuple[str, str]], notes: list[str]) -> LabelList:
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(label for _, label in pairs):
        try:
            spellings[label_key(name)].append(name)
        except ValueError as error:
            raise DataError(f"folder {name!a} in {root}: {error}") from None
    labels = LabelList.of(names[0] for names in spellings.values())
    notes += [
        f"one label to the network: {', '.join(names)}: joined as {names[0]}"
        for names in spellings.values()
        if len(names) > 1
    ]
    return labels


def _note_untrained(labels: LabelList, train: Pairs, notes: list[str]) -> None:
    trained = {label_key(label) for _, label in train}
    untrained = [name for name in labels.names if label_key(name) not in trained]
    if untrained:
        notes.append(f"no clips to train on ({len(untrained)}): {named(untrained)}")


def write_split(split: Split, folder: Path) -> list[Path]:
    """Write `labels.csv`, `train.csv` and, where there are any, `val.csv` and `test.csv`.

    All are written or none; lists of an earlier split that this one lacks are removed.

    Returns:
        The files written.
    """
    texts = {LABELS: labels_text(split.labels)}
    texts |= {
        name: _text(pairs)
        for name, pairs in ((TRAIN, split.train), (VAL, split.val), (TEST, split.test))
        if pairs
    }
    folder.mkdir(parents=True, exist_ok=True)
    drafts = {name: folder / f".{name}.draft-{os.getpid()}" for name in texts}
    try:
        for name, draft in drafts.items():
            draft.write_text(texts[name], encoding="utf-8", newline="")
        for name, draft in drafts.items():
            os.replace(draft, folder / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    for name in {VAL, TEST} - texts.keys():
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name in texts]


def _text(pairs: Pairs) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(("path", "label"))
    # A line that begins with # would be a comment.
    writer.writerows((f"./{p}" if p.startswith("#") else p, label) for p, label in pairs)
    return stream.getvalue()
