"""Folders of small files, each written whole: on a disk, or in an object store."""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from pathlib import Path

from xclip_serve.storage import is_address, located, reached

UNFINISHED = ".unfinished-"


def open_folder(name: str | os.PathLike[str]) -> Folder:
    """Open a folder by its path or address; a path is made where there is none.

    Raises:
        ValueError: Nothing that is installed reads such addresses; the path is a file's.
        OSError: The folder cannot be made.
    """
    return StoredFolder(str(name)) if is_address(name) else DiskFolder(Path(name))


class Folder(ABC):
    """Files by name, none of them ever half there."""

    name: str

    @abstractmethod
    def names(self) -> list[str]:
        """List the files."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return what is in a file. FileNotFoundError where there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put a file there, in place of the one that may be."""


class DiskFolder(Folder):
    """A folder on a disk, or on one that machines share."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, str(path)
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file, and what is asked for is a folder of parts")
        path.mkdir(exist_ok=True)

    def names(self) -> list[str]:
        """List the files."""
        return [n for n in sorted(os.listdir(self._path)) if not n.startswith(UNFINISHED)]

    def read(self, name: str) -> bytes:
        """Return what is in a file. FileNotFoundError where there is none."""
        return (self._path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, in place of the one that may be."""
        unfinished = self._path / f"{UNFINISHED}{uuid.uuid4().hex}"
        unfinished.write_bytes(data)
        os.replace(unfinished, self._path / name)


class StoredFolder(Folder):
    """A prefix in an object store, which takes an object whole or not at all."""

    def __init__(self, address: str) -> None:
        self.name = address.rstrip("/")
        self._files, self._path = located(self.name)

    def names(self) -> list[str]:
        """List the files."""
        with reached(self.name):
            self._files.invalidate_cache()
            try:
                paths = self._files.ls(self._path, detail=False)
            except FileNotFoundError:  # nothing has been written there
                return []
        return sorted(path.rpartition("/")[2] for path in paths)

    def read(self, name: str) -> bytes:
        """Return what is in a file. FileNotFoundError where there is none."""
        with reached(f"{self.name}/{name}"):
            return bytes(self._files.cat_file(f"{self._path}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, in place of the one that may be."""
        with reached(f"{self.name}/{name}"):
            self._files.pipe_file(f"{self._path}/{name}", data)
