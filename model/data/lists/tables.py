"""Lists of clips as files: annotation lists as published, CSV and Parquet tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.errors import DataError
from model.data.lists.labels import LabelList

TABLES = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class Row:
    """One line: a path, a label as written (a name or a class number), other wordings of it.

    `where` names the line in messages.
    """

    path: str
    label: str
    wordings: tuple[str, ...]
    where: str


def read_rows(file: Path, labels: LabelList | None) -> list[Row]:
    """The rows of a list or table; DataError names the line that cannot be read."""
    try:
        if file.suffix.lower() == ".parquet":
            return _from_records(file, _parquet(file))
        if file.suffix.lower() in TABLES:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
                return _from_records(file, csv.DictReader(stream, delimiter=delimiter))
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"list {file} does not exist: correct the path (data.train, data.val or --list)"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"list {file} cannot be read: {error}") from None
    named = [(f"{file}, line {n}", line.strip()) for n, line in enumerate(lines, 1)]
    return [_from_line(line, where, labels) for where, line in named if line]


def _from_line(line: str, where: str, labels: LabelList | None) -> Row:
    """`PATH LABEL`: separated by a tab, or by the white space before a class number or name.

    Paths may hold spaces, and so may names: then the longest known label at the end of the line
    is taken.
    """
    if "\t" in line:
        path, label = (part.strip() for part in line.rsplit("\t", 1))
    else:
        path, label = _split(line, labels)
    if not path or not label:
        raise DataError(f"{where}: {line!r} needs a path and a label")
    return Row(path, label, (), where)


def _split(line: str, labels: LabelList | None) -> tuple[str, str]:
    head, _, last = line.rpartition(" ")
    if last.isdecimal() or labels is None:
        return head.strip(), last
    words = line.split(" ")
    for start in range(1, len(words)):
        tail = " ".join(words[start:])
        if labels.find(tail) is not None:
            return " ".join(words[:start]).strip(), tail
    return head.strip(), last


def _parquet(file: Path) -> Iterable[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{file} needs pyarrow: pip install pyarrow, or use a CSV file") from None
    try:
        records: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except ArrowException as error:
        raise DataError(f"{file} is no Parquet table: {error}") from None
    return records


def _from_records(file: Path, records: Iterable[Mapping[str, Any]]) -> list[Row]:
    rows = []
    for number, record in enumerate(records, start=2):
        where = f"{file}, row {number}"
        if "path" not in record or "label" not in record:
            raise DataError(f"{file} needs the columns path and label; it has {', '.join(record)}")
        path, label = record["path"], record["label"]
        if path in (None, "") or label in (None, ""):
            raise DataError(f"{where}: path and label must not be empty")
        wordings = _wordings(record.get("captions"), where)
        rows.append(Row(str(path), str(label), wordings, where))
    return rows


def _wordings(value: Any, where: str) -> tuple[str, ...]:
    """The column captions: a list, or a JSON list of texts in CSV."""
    if value in (None, ""):
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f'{where}: captions must be a list of texts, in CSV as JSON: ["a", "b"]')
    return tuple(value)
