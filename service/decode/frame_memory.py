"""Frames pass from worker to parent in sealed shared memory: no copy, no pickle, no file.

The parent makes it with a size that can never change, so a worker cannot truncate it under the
parent's feet. When the worker has answered the parent seals it against writing, which the kernel
grants only while nobody has it mapped for writing: what is looked at afterwards stays as it is.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class FrameMemory:
    """Memory for uint8 frames of one `shape`; use as a context, the descriptor is closed after."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.size = prod(shape)
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        except OSError:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def frames(self) -> NDArray[np.uint8]:
        """The frames, read-only and without a copy; the memory is freed with the array.

        Raises OSError while a worker still has the memory mapped for writing.
        """
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        # Private: before Linux 6.7 a write-sealed file cannot be mapped shared, not even to read.
        mapped = mmap.mmap(self.fd, self.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        return np.frombuffer(mapped, dtype=np.uint8).reshape(self.shape)


def write_frames(fd: int, frames: NDArray[np.uint8]) -> None:
    """Put `frames` into the memory behind `fd`, in the worker; nothing stays mapped."""
    flat = np.ascontiguousarray(frames).reshape(-1).data
    if len(flat) != os.fstat(fd).st_size:
        raise ValueError(f"{len(flat)} bytes of frames for a memory of {os.fstat(fd).st_size}")
    with mmap.mmap(fd, len(flat)) as mapped:
        mapped[:] = flat
