"""A table as a folder of Parquet parts: what object stores can hold, and many machines write."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from xclip_serve.folders import Folder
from xclip_serve.tables import CODE, KEY, ROWS_AT_ONCE, Row, Table, schema_of

PART_EVERY_S = 10.0  # a kill loses the rows of no more than that
READ_AT_ONCE = 16
ENDING = ".parquet"


class PartsTable(Table):
    """Rows by `path` in parts. Several runs may add to one folder, each with clips of its own.

    Args:
        folder: Where the parts are.
        columns: Of each row.

    Attributes:
        place: Path or address of the folder.

    Raises:
        ValueError: There are parts of another table, or something else, under such a name.
    """

    def __init__(self, folder: Folder, columns: Sequence[str]) -> None:
        super().__init__(columns)
        import pyarrow.parquet  # noqa: F401 - before any work: it may be missing

        self._folder, self.place = folder, folder.name
        self._rows: list[Row] = []
        self._written_at = time.monotonic()
        self._read()

    def _read(self) -> None:
        """Take note of the rows of all parts."""
        names = [name for name in self._folder.names() if name.endswith(ENDING)]
        with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="parts") as threads:
            for rows in threads.map(self._rows_of, names):
                for row in rows:
                    self.note(row)

    def _rows_of(self, name: str) -> list[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            part = pq.ParquetFile(io.BytesIO(self._folder.read(name)))
        except pa.ArrowInvalid:
            raise ValueError(f"{self._folder.name}/{name} is no Parquet; take it away") from None
        if tuple(part.schema_arrow.names) != self.columns:
            raise ValueError(f"{self._folder.name} has another table; name another --output")
        rows: list[Row] = part.read(columns=[KEY, CODE]).to_pylist()
        return rows

    def add(self, row: Row) -> None:
        """Take a row; it is written with those of the same seconds."""
        self._rows.append(row)
        self.note(row)
        if time.monotonic() - self._written_at >= PART_EVERY_S or len(self._rows) >= ROWS_AT_ONCE:
            self._write()

    def close(self, *, complete: bool) -> None:
        """Write what is left, also of a run that was stopped."""
        self._write()

    def _write(self) -> None:
        if self._rows:  # the name is theirs: written again after an interruption, it is one part
            name = part_of(str(row[KEY]) for row in self._rows)
            write_part(self._folder, name, self._rows, self.columns)
        self._rows, self._written_at = [], time.monotonic()


def write_part(folder: Folder, name: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows as one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(columns)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), buffer)
    folder.write(name + ENDING, buffer.getvalue())


def part_of(clips: Iterable[str]) -> str:
    """Return the name of the part with the rows of these clips: written twice, it is one part."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.encode("utf-8", "surrogateescape") + b"\0")
    return f"part-{digest.hexdigest()[:32]}"
