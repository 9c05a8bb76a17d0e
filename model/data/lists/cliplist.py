"""A set of clips: paths with their classes and wordings, and where the files lie."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.errors import DataError
from model.data.lists.files import ClipFiles, Folder, Shards, Tar
from model.data.lists.labels import LabelList
from model.data.lists.names import is_clip
from model.data.lists.shards import rows_of_shards
from model.data.lists.tables import Row, class_number, read_rows
from model.inputs import clean_label

UNLABELLED = -1  # the class of a clip that nobody labelled
# What programs write where a label is missing; as a real label it stands in a label file.
MISSING = {"nan", "none", "null", "nil", "na", "n/a", "<na>", "#n/a", "true", "false", "-", "?"}


@dataclass(frozen=True)
class Sample:
    """One clip: its name in the source, its class, the indices of its wordings in the list's.

    Without a label its class is UNLABELLED.
    """

    name: str
    label: int
    wordings: tuple[int, ...]


@dataclass(frozen=True)
class ClipList:
    """All clips of a list. `wordings` are the distinct texts that any of them goes by."""

    samples: tuple[Sample, ...]
    labels: LabelList
    wordings: tuple[str, ...]
    files: ClipFiles

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def unlabelled(self) -> int:
        """Count the clips that nobody labelled."""
        return sum(sample.label == UNLABELLED for sample in self.samples)

    def per_class(self) -> list[int]:
        """Count the clips of each class."""
        counts = Counter(sample.label for sample in self.samples)
        return [counts[index] for index in range(len(self.labels))]


def read_clips(
    lists: Sequence[Path],
    root: Path | None,
    labels: LabelList | None = None,
    *,
    unlabelled: bool = False,
) -> ClipList:
    """Read lists, tables or shards as one set.

    Args:
        lists: files, all of one kind: lists and tables, or shards.
        root: folder or .tar that their paths start from.
        labels: the classes. A label of a list is then a name or a class number; without them the
            names that occur are the classes.
        unlabelled: whether clips may be without a label.

    Raises:
        DataError: names the list and the row that cannot be used.
    """
    if not lists:
        raise DataError("no list of clips is given: set data.train, for example to train.csv")
    rows, files = _rows_and_files(lists, root, labels)
    if not rows:
        raise DataError(f"{', '.join(map(str, lists))} names no clip")
    _check_labelled(rows, labels, unlabelled)
    labels = labels or _labels_of(rows)
    texts: dict[str, int] = {}
    samples = []
    for row, label in zip(rows, _classes(rows, labels), strict=True):
        own = row.wordings or (() if label == UNLABELLED else (labels.texts[label],))
        indices = tuple(dict.fromkeys(texts.setdefault(_clean(t, row), len(texts)) for t in own))
        samples.append(Sample(row.path, label, indices))
    return ClipList(tuple(samples), labels, tuple(texts), files)


def _rows_and_files(
    lists: Sequence[Path], root: Path | None, labels: LabelList | None
) -> tuple[list[Row], ClipFiles]:
    shards = [path for path in lists if path.suffix.lower() == ".tar"]
    if shards:
        if len(shards) < len(lists):
            raise DataError("lists and .tar shards cannot be mixed in one set: use one kind")
        source = Shards(shards)
        return rows_of_shards(source), source
    rows = [row for path in lists for row in read_rows(path, labels)]
    return rows, open_files(root)


def open_files(root: Path | None) -> ClipFiles:
    """Open the place where clips lie: a folder, or a tar file. DataError where there is none."""
    root = root or Path()
    if root.suffix.lower() == ".tar" and root.is_file():
        return Tar(root)
    if not root.is_dir():
        raise DataError(f"{root} is neither a folder nor a .tar file: set data.root (--root)")
    return Folder(root)


def _check_labelled(rows: Sequence[Row], labels: LabelList | None, unlabelled: bool) -> None:
    without = next((row for row in rows if row.label is None), None)
    if without is not None and not unlabelled:
        raise DataError(
            f"{without.where}: the label is missing: only clips to train on with loss.teacher may "
            "be without"
        )
    if without is not None and labels is None:
        raise DataError(
            f"{without.where}: the label is missing, and so are the labels to choose from: set "
            "data.labels (--labels) to a CSV file with the header id,name"
        )


def _labels_of(rows: Sequence[Row]) -> LabelList:
    """Make classes of the names that occur; a label that is hardly a name is refused."""
    named = [(row.label, row) for row in rows if row.label is not None]
    if all(class_number(label) is not None for label, _ in named):
        raise DataError(
            "the list gives class numbers and there are no names for them: set data.labels "
            "(--labels) to a CSV file with the header id,name"
        )
    for label, row in named:
        problem = _no_name(label)
        if problem:
            raise DataError(
                f"{row.where}: label {label!r} {problem}: correct the row, or set data.labels "
                "(--labels) to a label file (id,name) that has this name"
            )
    return LabelList.of(_clean(label, row) for label, row in named)


def _no_name(label: str) -> str | None:
    """Say why a label is not taken as a name, or None."""
    if label.strip().lower() in MISSING:
        return "stands for a missing one"
    if is_clip(label):
        return "is the name of a file"
    try:
        float(label)
    except ValueError:
        return None
    return "is a number, and other rows have names"


def _classes(rows: Sequence[Row], labels: LabelList) -> list[int]:
    """Look labels up, names first: where every label is one, a name of digits is no number."""
    all_names = all(labels.find(row.label) is not None for row in rows if row.label is not None)
    return [
        UNLABELLED if row.label is None else _class(row.label, row.where, labels, all_names)
        for row in rows
    ]


def _class(label: str, where: str, labels: LabelList, all_names: bool) -> int:
    number, index = class_number(label), labels.find(label)
    if index is not None and (all_names or number is None):
        return index
    if number is None:
        close = difflib.get_close_matches(label, labels.names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(
            f"{where}: label {label!r} is not among the {len(labels)} known labels{hint}: "
            "correct it, or add it to the label file"
        )
    if number >= len(labels):
        raise DataError(
            f"{where}: class {number} does not exist, there are {len(labels)} labels "
            f"(0 to {len(labels) - 1})"
        )
    return number


def _clean(text: str, row: Row) -> str:
    try:
        return clean_label(text)
    except ValueError as error:
        raise DataError(f"{row.where}: {error}") from None
