"""Class lists: labels in class order and the wordings each of them goes by."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.errors import DataError
from model.inputs import clean_label, label_key

COLUMN = "name"


@dataclass(frozen=True)
class LabelList:
    """K labels; the class of a label is its place. Two labels never read the same."""

    names: tuple[str, ...]
    classes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        classes: dict[str, int] = {}
        for place, name in enumerate(self.names):
            first = classes.setdefault(label_key(name), place)
            if first != place:
                raise DataError(
                    f"label {name!r} is in places {first} and {place}: each label may occur once"
                )
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """The class of a name, whatever its case and spacing; None where there is none."""
        try:
            return self.classes.get(label_key(name))
        except ValueError:
            return None

    @classmethod
    def of(cls, names: Iterable[str]) -> LabelList:
        """The distinct labels among these, in the order they first occur."""
        distinct: dict[str, str] = {}
        for name in names:
            distinct.setdefault(label_key(name), clean_label(name))
        return cls(tuple(distinct.values()))


def read_labels(path: Path) -> LabelList:
    """A label file as the datasets ship it: CSV with the header id,name; the class is the row.

    The id column is not looked at. DataError names the row of an empty or repeated label.
    """
    try:
        # Spreadsheet programs write a byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except FileNotFoundError:
        raise DataError(f"label file {path} does not exist: set data.labels") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"label file {path} cannot be read: {error}") from None
    if not rows or COLUMN not in rows[0]:
        raise DataError(f"label file {path} needs the header id,name and at least one row")
    names = []
    for number, row in enumerate(rows, start=2):
        try:
            names.append(clean_label(row[COLUMN] or ""))
        except ValueError as error:
            raise DataError(f"label file {path}, row {number}: {error}") from None
    try:
        return LabelList(tuple(names))
    except DataError as error:
        raise DataError(f"label file {path}: {error}") from None


def write_labels(path: Path, names: Sequence[str]) -> None:
    """A label file that `read_labels` reads back."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", COLUMN))
        writer.writerows(enumerate(names))
