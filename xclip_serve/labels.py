"""Read the labels of a file: one a line, or a table with a column `name`."""

from __future__ import annotations

from pathlib import Path


def read_label_file(path: Path) -> list[str]:
    """Return the labels in the order of the file; empty lines are passed over.

    Raises:
        ValueError: The file holds no label, or is no text; a row of a table that is wrong.
        OSError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    header = lines[0].strip().lower().split(",") if lines else []
    if "name" in header:
        from model.data.lists.labels import read_labels

        return list(read_labels(path).names)
    labels = [line.strip() for line in lines if line.strip()]
    if not labels:
        raise ValueError(f"{path} holds no label; write one a line")
    return labels
