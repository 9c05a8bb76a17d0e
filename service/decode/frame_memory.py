"""Memory through which frames pass from a worker to the parent: no pickle, no path.

The parent copies the frames out with a plain read once the worker has answered: whatever a worker
does to the memory then, or has done to its size, cannot change or fault what the parent uses.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]

COPIED_IN_THREAD_FROM = 4 << 20  # bytes of frames; about a millisecond


class FrameMemory:
    """Memory for uint8 frames of one `shape`; a context that closes its descriptor `fd`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.size = prod(shape)
        self.fd = _anonymous_file(self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def frames(self) -> NDArray[np.uint8]:
        """Return a read-only copy of the frames.

        Raises:
            OSError: The memory is smaller than it was made.
        """
        frames = np.empty(self.shape, dtype=np.uint8)
        if os.preadv(self.fd, [frames.reshape(-1).data], 0) != self.size:
            raise OSError(errno.EIO, "the frames are cut short")
        frames.flags.writeable = False
        return frames


def write_frames(fd: int, frames: NDArray[np.uint8]) -> None:
    """Put `frames` into the memory behind `fd`, in the worker; nothing stays mapped."""
    flat = np.ascontiguousarray(frames).reshape(-1).data
    if len(flat) != os.fstat(fd).st_size:
        raise ValueError(f"{len(flat)} bytes of frames for a memory of {os.fstat(fd).st_size}")
    with mmap.mmap(fd, len(flat)) as mapped:
        mapped[:] = flat


def _anonymous_file(size: int) -> int:
    """Return the descriptor of a file without a name: in memory, or where temporary files lie."""
    try:
        fd = os.memfd_create("frames", os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return _temporary_file(size)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd


def _temporary_file(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        # Reserved now: a disk that is full then fails here, not in the worker that maps it.
        os.posix_fallocate(file.fileno(), 0, size)
        return os.dup(file.fileno())
