"""Which clips are meant: files, folders, patterns, and lists of them, here or in a store."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from model.data.lists.folder_scan import LeftOut, clips_in
from model.data.lists.names import is_clip, is_side
from xclip_serve.storage import address_of, is_address, located, opened, reached

PATH_COLUMNS = ("path", "video", "clip", "file")
STANDARD_INPUT = "-"


def find_clips(names: Iterable[str]) -> Iterator[str]:
    """Yield the path of every clip once, in order; folders are searched with all below them.

    Args:
        names: Files; folders; patterns such as `clips/**/*.mp4`; lists (`.txt`, one path a line;
            `.csv` and `.parquet` with a column `path`), whose paths start from the list's folder;
            `-` for a list on standard input. Any of them may be an address in an object store,
            such as `s3://bucket/clips`.

    Raises:
        ValueError: There is nothing of a name, or a list has no column of paths.
        OSError: A list cannot be read.
        ClassifyError: A store cannot be reached.
    """
    seen: set[str] = set()
    for name in names:
        for path in _expand(name):
            normal = path if is_address(path) else os.path.normpath(path)
            if normal not in seen:
                seen.add(normal)
                yield normal


def shard_of(path: str, count: int) -> int:
    """Return which of `count` shards, from 1, a clip belongs to, whatever others there are."""
    digest = hashlib.sha256(os.fsencode(path)).digest()
    return 1 + int.from_bytes(digest[:8], "big") % count


def _expand(name: str) -> Iterator[str]:
    if name == STANDARD_INPUT:
        yield from _lines(sys.stdin.buffer, "", name)
    elif is_address(name):
        yield from _expand_address(name)
    elif os.path.isdir(name):
        yield from _below(name)
    elif os.path.exists(name):
        if reader := _reader(name):
            with open(name, "rb") as stream:
                yield from reader(stream, os.path.dirname(name), name)
        else:
            yield name
    elif glob.has_magic(name):
        matches = sorted(glob.iglob(name, recursive=True))
        if not any(map(os.path.isfile, matches)):
            raise ValueError(f"no file matches {name}")
        yield from filter(os.path.isfile, matches)
    else:
        raise ValueError(f"there is no file or folder {name}")


def _below(folder: str) -> Iterator[str]:
    """Yield the videos below a folder, sorted, without what is hidden."""
    top = Path(folder)
    for clip in clips_in(top, top, LeftOut()):
        yield os.path.join(folder, clip)


def _expand_address(name: str) -> Iterator[str]:
    store, path = located(name)
    with reached(name):
        one = not glob.has_magic(path) and store.isfile(path)
        if one:
            paths = [path]
        elif glob.has_magic(path):
            paths = store.glob(path, withdirs=False)
        else:
            paths = [clip for clip in store.find(path) if _is_clip_below(path, clip)]
        addresses = sorted(address_of(name, path) for path in paths)
    if not addresses:
        raise ValueError(f"there is no clip at {name}")
    if one and (reader := _reader(name)):
        with opened(name) as stream:
            yield from reader(stream, name.rpartition("/")[0], name)
    else:
        yield from addresses


def _is_clip_below(folder: str, path: str) -> bool:
    parts = path[len(folder) :].strip("/").split("/")
    return is_clip(parts[-1]) and not any(map(is_side, parts))


def _lines(stream: Iterable[bytes], folder: str, _: str) -> Iterator[str]:
    for line in stream:
        if path := os.fsdecode(line.rstrip(b"\r\n")).strip():
            yield _from(folder, path)


def _csv_list(stream: BinaryIO, folder: str, name: str) -> Iterator[str]:
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        column = _path_column(rows.fieldnames or (), name)
        for row in rows:
            if row[column]:
                yield _from(folder, row[column])


def _parquet_list(stream: BinaryIO, folder: str, name: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(stream)
    column = _path_column(table.schema_arrow.names, name)
    for batch in table.iter_batches(columns=[column]):
        for path in batch.column(0).to_pylist():
            if path:
                yield _from(folder, path)


def _from(folder: str, path: str) -> str:
    """Return a path of a list, which starts from the list's folder."""
    if is_address(path):
        return path
    return f"{folder}/{path}" if is_address(folder) else os.path.join(folder, path)


def _path_column(names: Iterable[str], file: str) -> str:
    columns = {name.strip().lower(): name for name in names}
    for name in PATH_COLUMNS:
        if name in columns:
            return columns[name]
    raise ValueError(f"{file} has no column path; its columns are {', '.join(columns) or 'none'}")


_Reader = Callable[[BinaryIO, str, str], Iterator[str]]
_READERS: dict[str, _Reader] = {".txt": _lines, ".csv": _csv_list, ".parquet": _parquet_list}


def _reader(name: str) -> _Reader | None:
    return _READERS.get(os.path.splitext(name)[1].lower())
