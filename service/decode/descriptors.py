"""The upload as a worker gets it: a descriptor that can only read."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def read_only(source: int | Path) -> Iterator[int]:
    """Provide a read-only descriptor for an open file or a path, closed afterwards.

    The file is opened again rather than its descriptor duplicated, so that it has a position of
    its own and cannot be written through.

    Raises:
        ValueError: It is no regular file.
        OSError: It cannot be opened.
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
        # No /proc, or a file system that knows no file without a name: a duplicate is as good, as
        # long as it can only read. A worker begins at the position that both share.
        if fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            raise
        os.lseek(source, 0, os.SEEK_SET)
        return os.dup(source)
