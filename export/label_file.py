"""Label lists as the datasets ship them: CSV with the header `id,name`."""

from __future__ import annotations

import csv
from pathlib import Path

from model.inputs import clean_label, label_key

COLUMN = "name"


def read_label_file(path: Path) -> tuple[str, ...]:
    """Labels in class order, which is row order: the `id` column is not looked at.

    `ValueError` names the file and the row of an empty label or of one that occurs twice.
    """
    try:
        # Spreadsheet programs write a byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"label file {path} cannot be read: {error}") from error
    if not rows or COLUMN not in rows[0]:
        raise ValueError(f"label file {path} needs the header id,name and at least one row")
    seen: dict[str, int] = {}
    labels = []
    for number, row in enumerate(rows, start=2):
        try:
            label = clean_label(row[COLUMN] or "")
        except ValueError as error:
            raise ValueError(f"label file {path}, row {number}: {error}") from error
        first = seen.setdefault(label_key(label), number)
        if first != number:
            raise ValueError(
                f"label file {path}, row {number}: {label!r} stands in row {first} already"
            )
        labels.append(label)
    return tuple(labels)
