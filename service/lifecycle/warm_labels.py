"""The start-up list: labels whose vectors are computed before the server says that it is ready."""

from __future__ import annotations

from pathlib import Path

from model.files import read_bounded
from model.inputs import clean_label

MOST_BYTES = 64 << 20  # a million labels


def read_warm_labels(file: Path) -> list[str]:
    """Read the labels of a text file, one a line; empty lines do not count.

    They are prompted as in a request without `template`. ValueError names the file.
    """
    try:
        lines = read_bounded(file, MOST_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"warm_labels {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"warm_labels {file} is no UTF-8 text") from None
    return list(dict.fromkeys(clean_label(line) for line in lines if line.strip()))
