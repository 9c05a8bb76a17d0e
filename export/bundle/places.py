"""Check where a bundle's files lie: regular files, inside the folder, none that is not listed."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from export.bundle.errors import BundleError
from export.bundle.manifest import MANIFEST_FILE
from model.files import open_regular

GRAPHS = (".onnx", ".xml")
# More bytes than any bundle needs: a file without end is refused before it is read.
LARGEST = {".json": 512 << 20, ".onnx": 2 << 30, ".xml": 2 << 30}  # protobuf ends at 2 GiB
LARGEST_OTHER = 64 << 30  # weights, engines, label vectors


def check_places(folder: Path, files: Iterable[str], listed: Iterable[str]) -> None:
    """Refuse files that are not what and where the manifest says.

    Args:
        folder: The bundle.
        files: POSIX paths, relative to the folder, of what is going to be read.
        listed: The same of everything that the manifest has a hash for.

    Raises:
        BundleError: A file is not regular, larger than any of its kind or, by a symbolic link,
            outside of the folder; or a graph reads weights that have no hash.
    """
    checked = list(files)
    root = Path(os.path.realpath(folder))
    for name in checked:
        _check_place(folder / name, root)
    unlisted = sorted(set(_names_in(folder)) - set(listed) - {MANIFEST_FILE})
    # Nobody looks into the graphs where every file is listed, as in any bundle that was exported.
    for name in checked if unlisted else ():
        if name.endswith(GRAPHS):
            _check_weights(folder, name, unlisted)


def _check_place(file: Path, root: Path) -> None:
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(root):
        raise BundleError(
            f"{file} is a link out of the bundle; copy the bundle with its files (cp -rL)"
        )
    try:
        status = real.stat()
    except OSError:
        return  # hashing it says what is wrong
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{file} is not a regular file; copy the bundle again")
    if status.st_size > (most := LARGEST.get(file.suffix, LARGEST_OTHER)):
        raise BundleError(f"{file} is larger than {most >> 20} MiB; copy the bundle again")


def _names_in(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*names, *linked]:
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _check_weights(folder: Path, graph: str, unlisted: Iterable[str]) -> None:
    """Refuse a graph that reads a file without a hash.

    ONNX writes the names of its weight files into the graph as they are; OpenVINO looks for
    NAME.bin beside NAME.xml. A name that merely occurs there is refused, too.
    """
    with open_regular(folder / graph) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for name in unlisted:
                beside = PurePosixPath(graph).with_suffix(".bin").as_posix() == name
                if beside or content.find(os.fsencode(PurePosixPath(name).name)) >= 0:
                    raise BundleError(
                        f"{folder / name} is read by {graph} and has no hash in {MANIFEST_FILE}; "
                        "make the bundle anew with `python -m export`"
                    )
