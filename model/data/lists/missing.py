"""Clips that are not where the list says: other spellings of their path, and what may be meant.

All this is looked at only after a path, taken as it stands, led nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePath

from model.data.lists.names import composed

DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class MissingClip(FileNotFoundError):
    """A clip that is not there; `hint` says which one may be meant, or is empty."""

    def __init__(self, name: str, similar: str | None = None) -> None:
        self.hint = f"did you mean {similar}?" if similar else ""
        super().__init__(f"missing; {self.hint}" if similar else "missing")
        self.name = name


def spellings(name: str) -> Iterator[str]:
    """Yield a path as it stands, then as it is meant with quotes, back slashes or a tilde."""
    yield name
    bare = name.strip().strip("\"'")
    if bare.startswith("~"):
        yield os.path.expanduser(bare)
    if bare != name:
        yield bare
    if "\\" in bare:
        yield bare.replace("\\", "/")


def find_file(root: Path, name: str) -> Path | None:
    """Return the one file that a path means in another spelling or Unicode form, or None."""
    for spelling in spellings(name):
        file = _walk(root, spelling)
        if file is not None and os.path.isfile(file):
            return file
    return None


def hint_for(root: Path, name: str) -> str | None:
    """Return the path below `root` that a missing one may stand for: by the end of the path, by
    another ending of the file, or by other capitals.
    """
    path = name.strip().strip("\"'").replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".", "~")]
    for start in range(1 if DRIVE.match(name) or len(parts) > 1 else 0, len(parts)):
        shorter = "/".join(parts[start:])
        if os.path.isfile(root / shorter):
            return shorter
    folder = _walk(root, "/".join(parts[:-1])) if parts else None
    if folder is None or not folder.is_dir():
        return None
    close = similar(parts[-1], _names(folder).values())
    return "/".join([*parts[:-1], close]) if close else None


def similar(name: str, others: Iterable[str]) -> str | None:
    """Return the one other name that differs in its ending or its capitals alone, or None."""
    target = composed(name).lower()
    bare = {target, PurePath(target).stem}
    close = [
        other
        for other in others
        if composed(other).lower() == target or PurePath(composed(other).lower()).stem in bare
    ]
    exact = [other for other in close if composed(other).lower() == target]
    close = exact or close
    return close[0] if len(close) == 1 else None


def _walk(root: Path, path: str) -> Path | None:
    """Follow a path part by part, each as it stands or in another Unicode form."""
    here = Path("/") if path.startswith("/") else root
    for part in PurePath(path).parts:
        if part == "/":
            continue
        if not os.path.lexists(here / part):
            other = _names(here).get(composed(part))
            if other is None:
                return None
            part = other
        here = here / part
    return here


def _names(folder: Path) -> dict[str, str]:
    """Return the entries of a folder by their composed form."""
    try:
        return _listing(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _listing(folder: Path, _changed: int) -> dict[str, str]:
    return {composed(name): name for name in os.listdir(folder)}
