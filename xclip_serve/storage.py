"""Object stores: clips and folders at addresses such as `s3://bucket/clips`, through fsspec.

Amazon's, those that speak its protocol, and Google's are reached with what pyarrow brings; other
addresses with whatever package fsspec names for them. Nothing of it is loaded before the first one.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from xclip_serve.errors import ClassifyError

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
OF_PYARROW = {"s3": "S3FileSystem", "gs": "GcsFileSystem"}
ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",)}
READ_AT_ONCE = 4 << 20  # bytes of a clip that are held in memory
# There is no right to the one object, or it is archived: told in the text alone, by pyarrow.
REFUSED = re.compile(r"ACCESS_DENIED|HTTP status 403|PERMISSION_DENIED|not valid for the object's")


def is_address(name: object) -> bool:
    """Say whether a name is that of an object store, not of a file here."""
    return isinstance(name, str) and ADDRESS.match(name) is not None


def located(address: str) -> tuple[Any, str]:
    """Return the file system of an address, as fsspec has it, and the path in it.

    Raises:
        ValueError: Nothing that is installed reads such addresses.
        ClassifyError: `unreachable`: the store is not configured, or does not answer.
    """
    match = ADDRESS.match(address)
    assert match is not None
    scheme, path = match.groups()
    try:
        with reached(address):
            if scheme in OF_PYARROW:
                import pyarrow.fs

                from xclip_serve.arrow_store import ArrowStore

                store = getattr(pyarrow.fs, OF_PYARROW[scheme])(**_endpoint(scheme))
                return ArrowStore(store, skip_instance_cache=True), path.rstrip("/")
            import fsspec

            return fsspec.filesystem(scheme), path.rstrip("/")
    except ImportError as error:
        raise ValueError(
            f"{address} needs a package that is not installed: pip install 'xclip-serve[s3]' for "
            f"s3:// and gs:// ({error})"
        ) from None


def _endpoint(scheme: str) -> dict[str, Any]:
    """Return where a store is that speaks one of the two protocols, as their tools are told."""
    told = [value for value in map(os.environ.get, ENDPOINTS[scheme]) if value]
    if not told:
        return {}
    if scheme == "s3":
        return {"endpoint_override": told[0]}
    protocol, _, host = told[0].rpartition("://")
    return {"endpoint_override": host, "scheme": protocol or "http", "anonymous": True}


def address_of(like: str, path: str) -> str:
    """Return the address of another path in the same store."""
    match = ADDRESS.match(like)
    assert match is not None
    return f"{match[1]}://{path.lstrip('/')}"


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Say in one form what goes wrong with a store, whose libraries raise errors of their own.

    Raises:
        FileNotFoundError: There is no such object.
        ClassifyError: `cannot_open`: the store refuses this object; `unreachable`: it does not
            answer.
    """
    try:
        yield
    except (ImportError, ValueError, ClassifyError):
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address) from None
    except Exception as error:
        why = str(error) or type(error).__name__
        if isinstance(error, PermissionError) or REFUSED.search(why):
            raise ClassifyError("cannot_open", f"the store refuses {address}: {why}") from error
        raise ClassifyError("unreachable", f"{address} cannot be reached: {why}") from error


@contextmanager
def opened(address: str) -> Iterator[BinaryIO]:
    """Open an object to read; it is fetched as it is read, a few megabytes at a time."""
    filesystem, path = located(address)
    with reached(address):
        file = filesystem.open(path, "rb", block_size=READ_AT_ONCE)
    if not file.size:
        file.close()
        raise ClassifyError("not_a_video", "the file is empty")
    with file, io.BufferedReader(_Reached(file, address), READ_AT_ONCE) as stream:
        yield stream


def fetch(address: str, file: BinaryIO) -> None:
    """Copy an object into a file, which then stands at its beginning."""
    with opened(address) as stream:
        shutil.copyfileobj(stream, file, READ_AT_ONCE)
    file.seek(0)


class _Reached(io.RawIOBase):
    """A file of fsspec whose errors are ours."""

    def __init__(self, file: BinaryIO, address: str) -> None:
        self._remote, self._address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._remote.seek(offset, whence)

    def tell(self) -> int:
        return self._remote.tell()

    def readinto(self, buffer: Any) -> int:
        with reached(self._address):
            data = self._remote.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
