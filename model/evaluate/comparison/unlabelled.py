"""Lists of clips that have no labels: only what networks say of them can be compared."""

from __future__ import annotations

import re
from pathlib import Path

from model.data.lists.cliplist import ClipList, Sample, open_files
from model.data.lists.csv_table import Kind, has_header, read_table, read_text
from model.data.lists.labels import LabelList
from model.data.lists.names import is_clip
from model.data.lists.tables import LIST

PATHS = Kind("list", ("path",), "path", "--list")
BINARY = {".parquet", ".tar"}  # of these only such with labels are read


def unlabelled_paths(file: Path) -> list[str] | None:
    """Return the paths of a list without labels, None of a list that has labels.

    It is a table with the column path and no column label, or text with a path to a line.

    Raises:
        DataError: The file cannot be read.
    """
    if file.suffix.lower() in BINARY:
        return None
    text = read_text(file, PATHS)
    if has_header(text, LIST):
        return None
    if has_header(text, PATHS):
        return [path for r in read_table(file, PATHS) if (path := r.fields["path"])]
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    paths = [line for line in lines if line and line[0] != "#"]
    return paths if paths and all(is_clip(path) and "\t" not in path for path in paths) else None


def unlabelled_clips(paths: list[str], root: Path | None, labels: LabelList) -> ClipList:
    """Return clips as a list; their class, which nobody knows, is the first."""
    samples = tuple(Sample(path, 0, (0,)) for path in paths)
    return ClipList(samples, labels, labels.names, open_files(root))
