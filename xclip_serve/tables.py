"""Tables that grow row by row, and go on where a killed program left them."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "path"
CODE = "code"  # a row that has one tells of a failure
NUMBERS = ("score", "similarity", "probability", "none_of_these", "duration_s")
VECTOR = "embedding"
ROWS_AT_ONCE = 10_000
JSON_ROW = b'{"path": '

Row = Mapping[str, Any]


def open_table(file: Path, columns: Sequence[str]) -> TableFile:
    """Open a table to go on with, or begin one: CSV, JSON lines or Parquet by the suffix.

    Raises:
        ValueError: The suffix is none of these; the file is another table, or in use.
        OSError: The file cannot be written.
    """
    if file.suffix.lower() not in KINDS:
        raise ValueError(f"{file} must end with {', '.join(KINDS)}")
    return KINDS[file.suffix.lower()](file, columns)


class Table(ABC):
    """Rows by `path`.

    Attributes:
        done: The paths that have a row.
        failed: Number of rows that tell of a failure.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.done: set[str] = set()
        self.failed = 0

    @abstractmethod
    def add(self, row: Row) -> None:
        """Write a row; it has a value or None for each column."""

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """Let go of the table; `complete` tells that every clip has its row."""

    def note(self, row: Row) -> None:
        """Take note of a row that is written."""
        self.failed += bool(row[CODE]) and row[KEY] not in self.done
        self.done.add(row[KEY])


class TableFile(Table):
    """A file that each row is written to whole at once: a kill loses none and leaves none half."""

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        super().__init__(columns)
        # Unbuffered: what a row's write has taken, the system has.
        self._file = open(file, "a+b", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            if not self._is_ours(self._file.readline()):
                raise ValueError(f"{file} is another table; name another --output")
            self._cut_half_line()
            self._read(file)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"{file} is being written by another run") from None
        except BaseException:
            self._file.close()
            raise

    @abstractmethod
    def _is_ours(self, first_line: bytes) -> bool:
        """Say whether a file that begins so has these columns; it may be cut off, or empty."""

    @abstractmethod
    def _read(self, file: Path) -> None:
        """Take note of the rows that are there."""

    @abstractmethod
    def _line(self, row: Row) -> bytes:
        """Return a row as one line."""

    def add(self, row: Row) -> None:
        """Write a row; it has a value or None for each column."""
        self._write(self._line(row))
        self.note(row)

    def close(self, *, complete: bool) -> None:
        """Let go of the file; `complete` tells that every clip has its row."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _cut_half_line(self) -> None:
        """Drop what a killed run has written of a row."""
        end = whole = self._file.seek(0, os.SEEK_END)
        while whole:
            first = max(0, whole - io.DEFAULT_BUFFER_SIZE)
            self._file.seek(first)
            newline = self._file.read(whole - first).rfind(b"\n")
            if newline >= 0:
                whole = first + newline + 1
                break
            whole = first
        if whole < end:
            self._file.truncate(whole)


class CsvTable(TableFile):
    """Comma-separated values with a header; no value has a line break."""

    def _is_ours(self, first_line: bytes) -> bool:
        header = self._values(self.columns)
        return first_line == header or (b"\n" not in first_line and header.startswith(first_line))

    def _read(self, file: Path) -> None:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            if rows.fieldnames is None:
                self._write(self._values(self.columns))
            for row in rows:
                self.note(row)

    def _line(self, row: Row) -> bytes:
        values = (row[column] for column in self.columns)
        return self._values([json.dumps(v) if isinstance(v, list) else v for v in values])

    def _values(self, values: Sequence[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue().encode()


class JsonTable(TableFile):
    """A JSON object on each line."""

    def _is_ours(self, first_line: bytes) -> bool:
        if not first_line.endswith(b"\n"):
            return JSON_ROW.startswith(first_line) or first_line.startswith(JSON_ROW)
        try:
            return tuple(json.loads(first_line)) == self.columns
        except (ValueError, TypeError):
            return False

    def _read(self, file: Path) -> None:
        for row in _json_rows(file):
            self.note(row)

    def _line(self, row: Row) -> bytes:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"


class ParquetTable(JsonTable):
    """Parquet, which cannot grow: rows gather in a file beside it, and become it at the end."""

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self._target, self._rows = file, file.with_name(f"{file.name}.rows")
        import pyarrow.parquet as pq  # before any work: it may be missing

        begun = self._rows.exists()
        super().__init__(self._rows, columns)
        if file.exists() and not begun:
            known = pq.ParquetFile(file)
            if tuple(known.schema_arrow.names) != self.columns:
                self._file.close()
                self._rows.unlink()
                raise ValueError(f"{file} is another table; name another --output")
            for batch in known.iter_batches():
                for row in batch.to_pylist():
                    self.add(row)

    def close(self, *, complete: bool) -> None:
        """Make the file of all rows, and put it in place, once it is complete."""
        if complete:
            self._convert()
        super().close(complete=complete)

    def _convert(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = schema_of(self.columns)
        unfinished = self._rows.with_suffix(".unfinished")
        rows = _json_rows(self._rows)
        with pq.ParquetWriter(unfinished, schema) as writer:
            while part := list(islice(rows, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(part, schema))
        os.replace(unfinished, self._target)
        self._rows.unlink()


KINDS: dict[str, type[TableFile]] = {
    ".csv": CsvTable,
    ".jsonl": JsonTable,
    ".parquet": ParquetTable,
}


def schema_of(columns: Sequence[str]) -> pa.Schema:
    """Return the types of the columns, as Parquet has them."""
    import pyarrow as pa

    kinds = {c: pa.float64() if c.startswith(NUMBERS) else pa.string() for c in columns}
    if VECTOR in kinds:
        kinds[VECTOR] = pa.list_(pa.float32())
    return pa.schema(list(kinds.items()))


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)
