"""Files on a disk: their digest, and having them really written."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

CACHE = "XCLIP_CACHE"  # an environment variable: a folder


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading without ever waiting for it.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device or a folder. A pipe would block its
            reader until somebody writes, a device like `/dev/zero` never ends.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def check_regular(path: Path) -> None:
    """Raise OSError unless this is a regular file, for readers that would wait for a pipe."""
    open_regular(path).close()


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Read a regular file whole.

    Raises:
        OSError: As `open_regular`, or it is larger than `most_bytes`.
    """
    with open_regular(path) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes >> 20} MiB")
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes as hexadecimal digits; reads in parts."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk before it goes on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Return the folder where what can be made again is kept for this user."""
    return Path(os.environ.get(CACHE) or "~/.cache/xclip-serve").expanduser()
