"""Class lists: labels in class order and the classes that their names stand for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.errors import DataError
from model.data.lists.csv_table import Kind, Record, read_table
from model.inputs import clean_label, label_key

COLUMN, TEXT = "name", "text"
LABEL_FILE = Kind("label file", (COLUMN,), "id,name", "data.labels or --labels")


@dataclass(frozen=True)
class LabelList:
    """K labels; the class of a label is its index. Two labels never read the same.

    `names` are what answers say, `texts` what the network reads: the names, if not others.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...] = ()
    classes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", self.texts or self.names)
        classes: dict[str, int] = {}
        for index, name in enumerate(self.names):
            first = classes.setdefault(label_key(name), index)
            if first != index:
                raise DataError(
                    f"label {name!r} is class {first} and class {index}: each may occur once"
                )
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """Return the class of a name, whatever its case and spacing; None for no label."""
        try:
            return self.classes.get(label_key(name))
        except ValueError:
            return None

    @classmethod
    def of(cls, names: Iterable[str]) -> LabelList:
        """Make a list of the distinct labels among these, in the order they first occur."""
        distinct: dict[str, str] = {}
        for name in names:
            distinct.setdefault(label_key(name), clean_label(name))
        return cls(tuple(distinct.values()))


def read_labels(path: Path) -> LabelList:
    """Read a label file as the datasets ship it: CSV with the header id,name.

    The class is the row, counted from 0; ids, where there are any, must say the same. A column
    `text` has what the network reads in place of a name; where it is empty that is the name.

    Raises:
        DataError: The file cannot be used; the row of a wrong id, an empty or a repeated label.
    """
    records = read_table(path, LABEL_FILE)
    if not records:
        raise DataError(f"label file {path} needs the header id,name and at least one row")
    names, texts = [], []
    rows: dict[str, str] = {}
    for index, record in enumerate(records):
        _check_id(record, index)
        try:
            name = clean_label(record.fields[COLUMN])
        except ValueError as error:
            raise DataError(f"{record.where}: {error}") from None
        row = record.where.rpartition(" ")[2]
        first = rows.setdefault(label_key(name), row)
        if first != row:
            raise DataError(f"{record.where}: {name!r} stands in row {first} already")
        names.append(name)
        texts.append(clean_label(record.fields.get(TEXT, "").strip() or name))
    return LabelList(tuple(names), tuple(texts))


def _check_id(record: Record, index: int) -> None:
    given = record.fields.get("id")
    if given is None:
        return
    whole, _, rest = given.partition(".")
    if not whole.isdecimal() or rest.strip("0") or int(whole) != index:
        raise DataError(
            f"{record.where}: id {given or 'is empty, it'} should be {index}: ids count the rows "
            "from 0; sort the rows by id, or leave the column out"
        )


def labels_text(labels: LabelList) -> str:
    """Return the text of a label file that `read_labels` reads back."""
    rows = list(zip(labels.names, labels.texts, strict=True))
    columns = (COLUMN, TEXT) if labels.texts != labels.names else (COLUMN,)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(("id", *columns))
    writer.writerows((index, *row[: len(columns)]) for index, row in enumerate(rows))
    return stream.getvalue()


def write_labels(path: Path, names: Sequence[str]) -> None:
    """Write a label file that `read_labels` reads back."""
    path.write_text(labels_text(LabelList(tuple(names))), encoding="utf-8", newline="")
