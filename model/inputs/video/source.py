"""The bytes of a client's file, for several readers at once, and nothing else of it.

Libraries look at a file object's name to guess what is in it, and open its neighbours; what they
get here has none.
"""

from __future__ import annotations

import io
import os
from threading import Lock
from typing import BinaryIO


class SharedFile:
    """A binary file that is read at any offset, from any thread."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._lock = Lock()
        self.size = source.seek(0, os.SEEK_END)
        # Only of a plain file: that of a gzip file, say, reads the compressed bytes.
        plain = isinstance(getattr(source, "raw", source), io.FileIO)
        self._descriptor = source.fileno() if plain else None

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`."""
        if self._descriptor is not None:
            return os.pread(self._descriptor, size, offset)
        with self._lock:
            self._source.seek(offset)
            return self._source.read(size)


class FileView:
    """One reader's position in a shared file: what PyAV is given."""

    def __init__(self, file: SharedFile) -> None:
        self._file = file
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        data = self._file.read_at(self._offset, size)
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as a file does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError("the file has nothing before its beginning")
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset in the file."""
        return self._offset
