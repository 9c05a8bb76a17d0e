"""Look through folders for clips; whatever is not taken is kept by its reason, to be said."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from model.data.lists.names import is_clip, is_side, is_text, named


@dataclass
class LeftOut:
    """Names of files and folders that were passed over, by what they are."""

    names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, what: str, name: str) -> None:
        """Note a file or folder."""
        self.names[what].add(name)

    def lines(self) -> list[str]:
        """Say what was left out: a line for each reason."""
        return [
            f"left out, {what} ({len(names)}): {named(sorted(names))}"
            for what, names in self.names.items()
        ]


HIDDEN = "hidden, or left there by a system"
OTHER = "no known ending of a video"
NO_TEXT = "a name that is not UTF-8"
LOOSE = "clips outside the folders of labels"
NOWHERE = "links that lead nowhere, and devices"


def folders_in(top: Path, root: Path, left: LeftOut) -> list[Path]:
    """List the folders directly in `top`, without those that nobody made on purpose."""
    return [path for path in _entries(top, root, left) if path.is_dir()]


def clips_in(top: Path, root: Path, left: LeftOut) -> list[str]:
    """List all clips below `top`, as paths from `root` in order; links to folders are followed."""
    return [str(path.relative_to(root)) for path in _clips(top, root, left, frozenset())]


def _clips(
    top: Path, root: Path, left: LeftOut, above: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    status = top.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it lies in
        return
    for path in _entries(top, root, left):
        if path.is_dir():
            yield from _clips(path, root, left, above | {here})
        elif not path.is_file():
            left.add(NOWHERE, _shown(path, root))
        elif not is_clip(path.name):
            left.add(OTHER, _shown(path, root))
        else:
            yield path


def note_loose(top: Path, root: Path, left: LeftOut) -> None:
    """Note the files directly in `top`, where only folders should be."""
    for path in _entries(top, root, left):
        if path.is_file():
            left.add(LOOSE if is_clip(path.name) else OTHER, _shown(path, root))


def holds_clips(folder: Path) -> bool:
    """Return whether there is any clip below a folder."""
    return next(_clips(folder, folder, LeftOut(), frozenset()), None) is not None


def has_clips_itself(folder: Path) -> bool:
    """Return whether there is a clip directly in a folder."""
    return any(
        is_clip(path.name) and path.is_file() for path in _entries(folder, folder, LeftOut())
    )


def _entries(top: Path, root: Path, left: LeftOut) -> Iterator[Path]:
    with os.scandir(top) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = top / name
        if is_side(name):
            left.add(HIDDEN, _shown(path, root))
        elif not is_text(name):
            left.add(NO_TEXT, _shown(path, root))
        else:
            yield path


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root))
