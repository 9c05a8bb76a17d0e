"""An uploaded file: written as it arrives, hashed on the way, never under a name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.contract.errors import ApiError


@dataclass(frozen=True)
class Upload:
    """A whole upload. The disk space is given back when this and its duplicates are closed."""

    file: BinaryIO
    size: int
    sha256: str

    def duplicate(self) -> BinaryIO:
        """Open the same file once more; the copy may outlive this one."""
        return os.fdopen(os.dup(self.file.fileno()), "rb")

    def close(self) -> None:
        """Let go of the file."""
        _close(self.file)


class UploadWriter:
    """An upload while it arrives. ApiError 503 where the disk does not take it."""

    def __init__(self, directory: Path | None) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        with _disk():
            descriptor, name = tempfile.mkstemp(dir=directory)
            try:
                self._file: BinaryIO = os.fdopen(descriptor, "wb")
                # Read through a descriptor of its own, which a decode worker may have: not every
                # system opens a file again once its name is gone.
                self._reader: BinaryIO = open(name, "rb", buffering=0)  # noqa: SIM115
            finally:
                os.unlink(name)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        with _disk():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Upload:
        """Return the upload, all of it in the file: others read it through the descriptor."""
        with _disk():
            self._file.close()
        return Upload(self._reader, self.size, self._hash.hexdigest())

    def close(self) -> None:
        """Drop what has arrived."""
        _close(self._file)
        _close(self._reader)


def check_storage(directory: Path | None) -> None:
    """Store a few bytes as uploads are stored. OSError where that fails."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"clip")


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # a full disk is told where it is written to
        file.close()


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Turn a full disk, a lost folder or too few descriptors into ApiError `out_of_resources`."""
    try:
        yield
    except OSError as error:
        raise ApiError(
            "out_of_resources", "the upload cannot be stored; ask again later", retry_after_s=10
        ) from error
