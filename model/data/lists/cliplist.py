"""A set of clips: paths with their classes and wordings, and where the files lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.errors import DataError
from model.data.lists.files import ClipFiles, Folder, Shards, Tar
from model.data.lists.labels import LabelList
from model.data.lists.shards import rows_of_shards
from model.data.lists.tables import Row, read_rows
from model.inputs import clean_label


@dataclass(frozen=True)
class Sample:
    """One clip: its name in the source, its class, the places of its wordings in the list's."""

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

    def per_class(self) -> list[int]:
        """Clips of each class."""
        counts = Counter(sample.label for sample in self.samples)
        return [counts[place] for place in range(len(self.labels))]


def read_clips(
    lists: Sequence[Path], root: Path | None, labels: LabelList | None = None
) -> ClipList:
    """Read lists, tables or shards as one set.

    A label is a name, or a class number where `labels` are given. Without `labels` the names that
    occur are the classes. DataError names the list and the line that cannot be used.
    """
    if not lists:
        raise DataError("no list of clips is given: set data.train, for example to train.csv")
    rows, files = _rows_and_files(lists, root, labels)
    if not rows:
        raise DataError(f"{', '.join(map(str, lists))} names no clip")
    labels = labels or _labels_of(rows)
    texts: dict[str, int] = {}
    samples = []
    for row, label in zip(rows, _classes(rows, labels), strict=True):
        own = row.wordings or (labels.names[label],)
        places = tuple(dict.fromkeys(texts.setdefault(_clean(t, row), len(texts)) for t in own))
        samples.append(Sample(row.path, label, places))
    return ClipList(tuple(samples), labels, tuple(texts), files)


def _rows_and_files(
    lists: Sequence[Path], root: Path | None, labels: LabelList | None
) -> tuple[list[Row], ClipFiles]:
    shards = [path for path in lists if path.suffix == ".tar"]
    if shards:
        if len(shards) < len(lists):
            raise DataError("lists and .tar shards cannot be mixed in one set: use one kind")
        source = Shards(shards)
        return rows_of_shards(source), source
    rows = [row for path in lists for row in read_rows(path, labels)]
    return rows, open_files(root)


def open_files(root: Path | None) -> ClipFiles:
    """Where clips lie: a folder, or a tar file. DataError where there is none."""
    root = root or Path()
    if root.suffix == ".tar" and root.is_file():
        return Tar(root)
    if not root.is_dir():
        raise DataError(f"{root} is neither a folder nor a .tar file: set data.root")
    return Folder(root)


def _labels_of(rows: Sequence[Row]) -> LabelList:
    if all(row.label.isdecimal() for row in rows):
        raise DataError(
            "the list gives class numbers and there are no names for them: set data.labels to a "
            "CSV file with the header id,name"
        )
    try:
        return LabelList.of(row.label for row in rows)
    except ValueError as error:
        raise DataError(f"{rows[0].where.rsplit(',', 1)[0]}: {error}") from None


def _classes(rows: Sequence[Row], labels: LabelList) -> list[int]:
    """Names first: where every label is a name, a name made of digits is no class number."""
    by_name = [labels.find(row.label) for row in rows]
    return [
        found if found is not None and (None not in by_name or not row.label.isdecimal())
        else _numbered(row, labels)
        for row, found in zip(rows, by_name, strict=True)
    ]  # fmt: skip


def _numbered(row: Row, labels: LabelList) -> int:
    if not row.label.isdecimal():
        raise DataError(
            f"{row.where}: label {row.label!r} is not among the {len(labels)} known labels: "
            "correct it, or add it to the label file"
        )
    if int(row.label) >= len(labels):
        raise DataError(
            f"{row.where}: class {row.label} does not exist, there are {len(labels)} labels "
            f"(0 to {len(labels) - 1})"
        )
    return int(row.label)


def _clean(text: str, row: Row) -> str:
    try:
        return clean_label(text)
    except ValueError as error:
        raise DataError(f"{row.where}: {error}") from None
