"""Lists of clips as files: annotation lists as published, CSV and Parquet tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.errors import DataError
from model.data.lists.csv_table import Kind, has_header, read_table, read_text
from model.data.lists.labels import LabelList
from model.data.lists.names import VIDEO_ENDINGS, is_clip

COLUMNS = ("path", "label")
LIST = Kind("list", COLUMNS, "path,label", "data.train, data.val or --list")
PATHS = Kind("list", COLUMNS[:1], "path", LIST.settings)
UNLABELLED = ("path", "captions")  # all columns of a table without labels
CSV = {".csv", ".tsv"}
NO_LISTS = {".json", ".jsonl", ".yaml", ".yml", ".xml", ".xls", ".xlsx", ".ods", ".gz", ".zip"}
# A path that ends as videos do, blank, label: the last such place in the line.
VIDEO_THEN_LABEL = re.compile(
    rf"(?P<path>.*(?:{'|'.join(map(re.escape, sorted(VIDEO_ENDINGS)))}))\s+(?P<label>\S.*)",
    re.IGNORECASE,
)
QUOTED_THEN_LABEL = re.compile(r'"(?P<path>[^"]+)"\s+(?P<label>\S.*)')


@dataclass(frozen=True)
class Row:
    """One line: a path, a label as written (a name or a class number), other wordings of it.

    The label is None where there is none. `where` names the line in messages.
    """

    path: str
    label: str | None
    wordings: tuple[str, ...]
    where: str


def read_rows(file: Path, labels: LabelList | None) -> list[Row]:
    """Read the rows of a list or table. The column label may be absent, its fields may be empty,
    and a line of text may be the name of a video alone.

    Raises:
        DataError: The file, or a row that is named with its number, cannot be used.
    """
    ending = file.suffix.lower()
    if ending == ".parquet":
        return _parquet(file)
    if ending in NO_LISTS:
        raise DataError(
            f"list {file}: lists are text (PATH LABEL a line), .csv, .tsv, .parquet, or "
            "WebDataset .tar: convert it to one of these"
        )
    text = read_text(file, LIST)
    paths_alone = not has_header(text, LIST) and has_header(text, PATHS)
    if ending in CSV or paths_alone or has_header(text, LIST):
        records = read_table(file, PATHS if paths_alone else LIST)
        if paths_alone and records:
            _check_alone(file, records[0].fields)
        return [_row(record.fields, record.where) for record in records]
    lines = [(f"list {file}, line {n}", line.strip()) for n, line in _numbered(text)]
    return [_from_line(line, where, labels) for where, line in lines if line and line[0] != "#"]


def _check_alone(file: Path, columns: Iterable[str]) -> None:
    """Refuse a table without labels that has other columns: one of them may be label, misspelt."""
    columns = list(columns)
    if COLUMNS[0] not in columns or not set(columns) <= {*UNLABELLED, ""}:
        raise DataError(
            f"list {file} needs the columns path and label; it has {', '.join(columns)} (clips "
            "without labels, for a teacher, have no other column than path and captions)"
        )


def _numbered(text: str) -> enumerate[str]:
    return enumerate(re.split(r"\r\n|\r|\n", text), 1)


def _from_line(line: str, where: str, labels: LabelList | None) -> Row:
    """Read `PATH LABEL`: separated by a tab, or by the blank before a class number or name.

    Paths may hold spaces, and so may names: then the longest known label at the end of the line
    is taken, or without known labels all that follows the ending of a video.
    """
    if is_clip(line) and "\t" not in line:
        return _checked(Row(line.strip('"'), None, (), where))
    if "\t" in line:
        path, label = (part.strip() for part in line.rsplit("\t", 1))
    else:
        path, label = _split(line, where, labels)
    if not path or not label:
        raise DataError(f"{where}: {line!r} needs a path and a label")
    return _checked(Row(path, label, (), where))


def _split(line: str, where: str, labels: LabelList | None) -> tuple[str, str]:
    quoted = QUOTED_THEN_LABEL.fullmatch(line)
    if quoted:
        return quoted["path"], quoted["label"]
    head, _, last = line.rpartition(" ")
    if class_number(last) is not None:
        return head.strip(), last
    if labels is not None:
        words = line.split(" ")
        tails = ((words[:i], " ".join(words[i:])) for i in range(1, len(words)))
        known = ((before, tail) for before, tail in tails if labels.find(tail) is not None)
        for before, tail in known:
            return " ".join(before).strip(), tail
    video = VIDEO_THEN_LABEL.fullmatch(line)
    if video:
        return video["path"], video["label"]
    if " " in head.strip() and labels is None:
        raise DataError(f"{where}: where does the label of {line!r} begin? Put a tab before it")
    return head.strip(), last


def class_number(label: str) -> int | None:
    """Return the class that a label is the number of: 3 for "3" and "3.0", None for a name."""
    whole, _, rest = label.partition(".")
    return int(whole) if whole.isdecimal() and not rest.strip("0") else None


def _parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{file} needs pyarrow: pip install pyarrow, or use a CSV file") from None
    try:
        records: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except FileNotFoundError:
        raise DataError(f"list {file} does not exist: correct the path ({LIST.settings})") from None
    except (ArrowException, OSError) as error:
        raise DataError(f"list {file} is no Parquet table: {error}") from None
    rows = []
    for number, record in enumerate(records, start=1):
        fields = {str(name).strip().lower(): value for name, value in record.items()}
        if not set(COLUMNS) <= set(fields):
            _check_alone(file, fields)
        rows.append(_row(fields, f"list {file}, row {number}"))
    return rows


def _row(fields: Mapping[str, Any], where: str) -> Row:
    path, label = fields["path"], label_of(fields.get("label"), where)
    if path is None or path == "":
        raise DataError(f"{where}: the path is empty")
    if not isinstance(path, str):
        raise DataError(f"{where}: the path must be text, not {path!r}")
    return _checked(Row(path, label, _wordings(fields.get("captions"), where), where))


def label_of(value: Any, where: str) -> str | None:
    """Return the text of a label: class numbers also come as floats. None of a missing one, for
    which there is NaN as well.
    """
    if value is None or value == "" or value != value:  # NaN alone differs from itself
        return None
    if isinstance(value, str):
        return value
    whole = not isinstance(value, (bool, bytes)) and hasattr(value, "__int__")
    if not whole or int(value) != value or value < 0:
        raise DataError(f"{where}: {value!r} is neither a label's name nor a class number")
    return str(int(value))


def _checked(row: Row) -> Row:
    if "\0" in row.path:
        raise DataError(f"{row.where}: the path holds a NUL character")
    return row


def _wordings(value: Any, where: str) -> tuple[str, ...]:
    """Read the column captions: a list, or a JSON list of texts in CSV."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f'{where}: captions must be a list of texts, in CSV as JSON: ["a", "b"]')
    return tuple(value)
