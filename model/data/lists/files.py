"""Where the clips lie: a folder, an uncompressed tar, WebDataset shards.

All three are read at random places, so every order of clips can be drawn again after a restart.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from model.command_line import one_line
from model.data.errors import DataError
from model.data.lists.missing import MissingClip, find_file, hint_for, similar, spellings
from model.data.lists.names import composed
from model.files import open_regular

BLOCK = 512


class ClipFiles(Protocol):
    """Opens clips by the name that the list gives them."""

    def open(self, name: str) -> BinaryIO:
        """Open the clip's file, to be closed by the caller; MissingClip where there is none."""

    def holds(self, name: str) -> bool:
        """Return whether there is such a clip."""

    def version(self, name: str) -> str:
        """Return what changes when the clip does; empty where there is none."""


class Folder:
    """Clips below a folder; also `FOLDER/PARENT.tar` in place of a sub-folder `FOLDER/PARENT`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tars: dict[str, Tar | None] = {}

    def open(self, name: str) -> BinaryIO:
        """Open the file, or the member of the tar that stands in place of its folder."""
        try:
            return open_regular(self.root / name)
        except (FileNotFoundError, NotADirectoryError):
            tar = self._tar(name)
            if tar is not None:
                return tar.open(PurePosixPath(name).name)
            file = find_file(self.root, name)
            if file is None:
                raise MissingClip(name, hint_for(self.root, name)) from None
            return open_regular(file)

    def holds(self, name: str) -> bool:
        """Return whether the file is there."""
        if os.path.isfile(self.root / name):
            return True
        tar = self._tar(name)
        if tar is not None:
            return tar.holds(PurePosixPath(name).name)
        return find_file(self.root, name) is not None

    def version(self, name: str) -> str:
        """Return size and time of the file."""
        try:
            status = (self.root / name).stat()
        except OSError:
            tar = self._tar(name)
            if tar is not None:
                return tar.version(PurePosixPath(name).name)
            file = find_file(self.root, name)
            if file is None:
                return ""
            status = file.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def _tar(self, name: str) -> Tar | None:
        parent = str(PurePosixPath(name).parent)
        if parent not in self._tars:
            file = self.root / f"{parent}.tar"
            self._tars[parent] = Tar(file) if os.path.isfile(file) else None
        return self._tars[parent]


@dataclass(frozen=True)
class Extent:
    """Where a member lies in its tar file, in bytes."""

    offset: int
    size: int


class ArchiveFile:
    """Reads stretches of one file. Forked and pickled copies each open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, int] | None = None  # process id, file descriptor

    def read(self, extent: Extent) -> BinaryIO:
        """Return the bytes of a member."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), os.open(self.path, os.O_RDONLY))
        data = os.pread(self._handle[1], extent.size, extent.offset)
        if len(data) < extent.size:
            raise OSError(f"{self.path} ends inside a member")
        return io.BytesIO(data)

    def version(self) -> str:
        """Return size and time of the file."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None}


class Tar:
    """Members of an uncompressed tar, by their path or, as published, by their base name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = ArchiveFile(path)
        self._members = dict(list_members(path))
        self._by_form = {composed(name): name for name in self._members}
        self._by_base: dict[str, str | None] = {}
        for form, name in self._by_form.items():
            base = PurePosixPath(form).name
            self._by_base[base] = None if base in self._by_base else name

    def open(self, name: str) -> BinaryIO:
        """Return the member's bytes; MissingClip where there is none or the name is ambiguous."""
        member = self._member(name)
        if member is None:
            bases = [PurePosixPath(other).name for other in self._members]
            raise MissingClip(name, similar(PurePosixPath(name).name, bases))
        return self._file.read(self._members[member])

    def holds(self, name: str) -> bool:
        """Return whether there is such a member."""
        return self._member(name) is not None

    def version(self, name: str) -> str:
        """Return the time of the archive and where the member lies in it."""
        member = self._member(name)
        return "" if member is None else f"{self._file.version()} {self._members[member]}"

    def _member(self, name: str) -> str | None:
        for spelling in spellings(name):
            path = str(PurePosixPath(spelling))
            if path in self._members:
                return path
            form = composed(path)
            member = self._by_form.get(form) or self._by_base.get(PurePosixPath(form).name)
            if member is not None:
                return member
        return None


class Shards:
    """WebDataset shards: tar files in which the members of one sample share a key."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._files = [ArchiveFile(path) for path in paths]
        self.members = {
            f"{number}/{name}": (number, extent)
            for number, path in enumerate(paths)
            for name, extent in list_members(path)
        }

    def open(self, name: str) -> BinaryIO:
        """Return the member's bytes; MissingClip where there is none."""
        if name not in self.members:
            raise MissingClip(name)
        number, extent = self.members[name]
        return self._files[number].read(extent)

    def holds(self, name: str) -> bool:
        """Return whether there is such a member."""
        return name in self.members

    def version(self, name: str) -> str:
        """Return the time of the shard and where the member lies in it."""
        if name not in self.members:
            return ""
        number, extent = self.members[name]
        return f"{self._files[number].version()} {extent}"


def list_members(path: Path) -> list[tuple[str, Extent]]:
    """List the files in an uncompressed tar; DataError where it is compressed or cut short."""
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            members = [
                (str(PurePosixPath(m.name)), Extent(m.offset_data, m.size))
                for m in tar
                if m.isfile() and not m.issparse()
            ]
            whole = _is_whole(stream, max((e.offset + e.size for _, e in members), default=0))
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path} cannot be read as an uncompressed tar: {one_line(error)}"
        ) from None
    if not whole:
        raise DataError(f"{path} is cut short: copy it again")
    return members


def _is_whole(stream: BinaryIO, last: int) -> bool:
    """Tell whether an empty block ends the archive, behind the last member: without it others may
    be missing that nobody would miss.
    """
    size = stream.seek(0, os.SEEK_END)
    if size < max(last, 1) + BLOCK:
        return False
    stream.seek(-BLOCK, os.SEEK_END)
    return not any(stream.read(BLOCK))
