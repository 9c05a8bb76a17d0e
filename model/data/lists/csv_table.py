"""CSV as people and programs write it: the one reader of clip lists and label files.

Taken are UTF-8 with and without a byte-order mark, UTF-16 with one, commas, semicolons and tabs,
headers in any case, blanks around fields, empty lines, and comments: lines that begin with `#`.
A row that does not have as many fields as the header is refused, never guessed at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SHOWN = 60  # characters of a line that is quoted in a message


@dataclass(frozen=True)
class Kind:
    """What a file is for: how messages call it, the columns it must have, its header as it should
    look, and the settings that name it.
    """

    name: str
    columns: tuple[str, ...]
    header: str
    settings: str


@dataclass(frozen=True)
class Record:
    """A row: its fields by the lower-case name of their column, and where it stands."""

    fields: dict[str, str]
    where: str


def read_text(file: Path, kind: Kind) -> str:
    """Return the text of a file.

    Raises:
        DataError: It cannot be read or is no text.
    """
    what = kind.name
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{what} {file} does not exist: correct the path ({kind.settings})"
        ) from None
    except IsADirectoryError:
        raise DataError(
            f"{what} {file} is a folder: python -m model.data folders makes lists out of one"
        ) from None
    except OSError as error:
        raise DataError(f"{what} {file} cannot be read: {error.strerror}") from None
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data and not utf16:
        raise DataError(f"{what} {file} is no text: save it as CSV in UTF-8")
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f'{what} {file}, row {row}: not UTF-8: save the file as UTF-8 (in spreadsheets "CSV '
            'UTF-8")'
        ) from None


def has_header(text: str, kind: Kind) -> bool:
    """Return whether the first line that is no comment names all columns of such a file."""
    return _header(_Lines(text), kind.columns) is not None


def read_table(file: Path, kind: Kind) -> list[Record]:
    """Return the rows of a CSV file.

    Args:
        file: with any of the delimiters above.
        kind: which columns must be there; others may be.

    Raises:
        DataError: A row, named with its number, does not fit the header; or there is no header.
    """
    what = kind.name
    lines = _Lines(read_text(file, kind))
    header = _header(lines, kind.columns)
    if header is None:
        shown = lines.line.strip()
        begins = f"it begins with {shown[:SHOWN]!r}" if shown else "it is empty"
        raise DataError(f"{what} {file} needs the header {kind.header} as its first line; {begins}")
    delimiter, names = header
    twice = [name for name in kind.columns if names.count(name) > 1]
    if twice:
        raise DataError(f"{what} {file} has the column {twice[0]} twice")
    records = []
    for number, row in _rows(lines, delimiter, f"{what} {file}"):
        if not any(row):
            continue
        where = f"{what} {file}, row {number}"
        if len(row) != len(names):
            raise DataError(f"{where}: {_misfit(len(row), len(names), delimiter)}")
        records.append(Record(dict(zip(names, row, strict=True)), where))
    return records


def _misfit(fields: int, columns: int, delimiter: str) -> str:
    said = f"{fields} field{'s' * (fields != 1)}, the header has {columns}"
    if fields > columns:
        said += f": put quotes around a field that holds a {DELIMITERS[delimiter]}"
    return said


class _Lines:
    """The lines of a text for csv.reader, which may ask for several for one row.

    Comments are left out between rows; inside a quoted field a line is data, whatever it is.
    """

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._number = 0
        self.between, self.first, self.line = True, 0, ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self._number += 1
            if self.between and (line.startswith("#") or not line.strip()):
                continue
            if self.between:
                self.first, self.between = self._number, False
            self.line = line
            return line
        raise StopIteration


def _header(lines: _Lines, columns: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the delimiter and the names of the first line, if all columns are among them."""
    line = next(lines, "")
    if line.lower().startswith("sep="):  # what spreadsheets write for each other
        lines.between = True
        line = next(lines, "")
    for delimiter in DELIMITERS:
        try:
            row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            continue
        names = [name.strip().lower() for name in row]
        if set(columns) <= set(names):
            return delimiter, names
    return None


def _rows(lines: _Lines, delimiter: str, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of its first line; blanks around fields are dropped."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        lines.between = True
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise DataError(
                f"{file}, row {lines.first}: quotes must stand around a whole field and be closed; "
                'a quote inside one is written twice (""): correct the row'
            ) from None
        yield lines.first, [field.strip() for field in row]
