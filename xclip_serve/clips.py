"""Which clips are meant: files, folders, patterns, and lists of them."""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.data.lists.folder_scan import LeftOut, clips_in

PATH_COLUMNS = ("path", "video", "clip", "file")
STANDARD_INPUT = "-"


def find_clips(names: Iterable[str]) -> Iterator[str]:
    """Yield the path of every clip once, in order; folders are searched with all below them.

    Args:
        names: Files; folders; patterns such as `clips/**/*.mp4`; lists (`.txt`, one path a line;
            `.csv` and `.parquet` with a column `path`), whose paths start from the list's folder;
            `-` for a list on standard input.

    Raises:
        ValueError: There is nothing of a name, or a list has no column of paths.
        OSError: A list cannot be read.
    """
    seen: set[str] = set()
    for name in names:
        for path in _expand(name):
            normal = os.path.normpath(path)
            if normal not in seen:
                seen.add(normal)
                yield normal


def shard_of(path: str, count: int) -> int:
    """Return which of `count` shards, from 1, a clip belongs to, whatever others there are."""
    digest = hashlib.sha256(os.fsencode(path)).digest()
    return 1 + int.from_bytes(digest[:8], "big") % count


def _expand(name: str) -> Iterator[str]:
    if name == STANDARD_INPUT:
        yield from _lines(sys.stdin.buffer, Path())
    elif os.path.isdir(name):
        yield from _below(name)
    elif os.path.exists(name):
        yield from _READERS.get(Path(name).suffix.lower(), _itself)(Path(name))
    elif glob.has_magic(name):
        matches = sorted(glob.iglob(name, recursive=True))
        if not any(map(os.path.isfile, matches)):
            raise ValueError(f"no file matches {name}")
        yield from filter(os.path.isfile, matches)
    else:
        raise ValueError(f"there is no file or folder {name}")


def _itself(file: Path) -> Iterator[str]:
    yield str(file)


def _below(folder: str) -> Iterator[str]:
    """Yield the videos below a folder, sorted, without what is hidden."""
    top = Path(folder)
    for clip in clips_in(top, top, LeftOut()):
        yield os.path.join(folder, clip)


def _lines(stream: Iterable[bytes], folder: Path) -> Iterator[str]:
    for line in stream:
        if path := os.fsdecode(line.rstrip(b"\r\n")).strip():
            yield str(folder / path)


def _text_list(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        yield from _lines(stream, file.parent)


def _csv_list(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        column = _path_column(rows.fieldnames or (), file)
        for row in rows:
            if row[column]:
                yield str(file.parent / row[column])


def _parquet_list(file: Path) -> Iterator[str]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    column = _path_column(table.schema_arrow.names, file)
    for batch in table.iter_batches(columns=[column]):
        for path in batch.column(0).to_pylist():
            if path:
                yield str(file.parent / path)


def _path_column(names: Iterable[str], file: Path) -> str:
    columns = {name.strip().lower(): name for name in names}
    for name in PATH_COLUMNS:
        if name in columns:
            return columns[name]
    raise ValueError(f"{file} has no column path; its columns are {', '.join(columns) or 'none'}")


_READERS = {".txt": _text_list, ".csv": _csv_list, ".parquet": _parquet_list}
