"""Names of files and folders: which are clips, which nobody made, which are splits."""

from __future__ import annotations

import unicodedata
from pathlib import PurePath

VIDEO_ENDINGS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx"),
        *(".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".mod"),
        *(".wmv", ".asf", ".flv", ".ogv", ".mxf", ".dv", ".gif", ".h264", ".264", ".hevc", ".h265"),
    )
)
# What systems and programs leave in folders, besides names that begin with a dot.
SIDE_NAMES = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "found.000"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"),
    )
)
SPLITS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": ("val", "valid", "validation", "validate", "dev", "valset", "val_set"),
    "test": ("test", "testing", "eval", "evaluation", "testset", "test_set"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}


def is_clip(name: str) -> bool:
    """Return whether a file's ending is that of a video, in any case."""
    return PurePath(name).suffix.lower() in VIDEO_ENDINGS


def is_side(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a system or a program left there."""
    return name.startswith(".") or name.lower() in SIDE_NAMES


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name says: train, val or test; None for another name."""
    return _SPLIT_OF.get(folder.strip().lower().replace(" ", "_").replace("-", "_"))


def composed(name: str) -> str:
    """Return a name in the one form that its Unicode spellings share, without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def is_text(name: str) -> bool:
    """Return whether a name is text that a list can hold: file systems also hold other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(names: list[str], most: int = 5) -> str:
    """Return the first of some names and how many more there are."""
    rest = len(names) - most
    shown = ", ".join(ascii(name)[1:-1] if not is_text(name) else name for name in names[:most])
    return f"{shown} and {rest} more" if rest > 0 else shown
