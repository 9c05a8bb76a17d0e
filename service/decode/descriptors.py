"""The upload as a worker gets it: a descriptor of its own that can only read."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def read_only(source: int | Path) -> Iterator[int]:
    """A new read-only descriptor for an open file or a path of ours, closed afterwards.

    Opened anew rather than duplicated, so that it has a position of its own and cannot be written
    through. Raises ValueError for what is no regular file, OSError where it cannot be opened.
    """
    fd = _opened(source)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("the upload must be a regular file, on disk or in memory")
        yield fd
    finally:
        os.close(fd)


def _opened(source: int | Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if isinstance(source, Path):
        return os.open(source, flags)
    try:
        return os.open(f"/proc/self/fd/{source}", flags)
    except FileNotFoundError:
        # No /proc here: as good, as long as the descriptor itself can only read.
        if fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            raise
        return os.dup(source)
