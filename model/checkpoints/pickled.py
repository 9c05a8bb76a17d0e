"""The tensors of a `.pth`, `.pt` or `.bin` file, and nothing executed that lies beside them.

torch reads files of tensors alone (`weights_only`). What it refuses, because other objects lie
in there (official training saves its config so), is read here: a pickle whose every class is an
inert stand-in, and tensors mapped from the file.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from model.checkpoints.errors import CheckpointError
from model.files import check_regular

SCRIPTED = "constants.pkl"  # in every TorchScript archive
PICKLE = "data.pkl"
PICKLE_BYTES = 64 << 20  # names and sizes alone; each byte may become an object
# Of the format before torch 1.6: a mark, a version, the system, and the object. Storages follow.
OLD_PICKLES = 4
OLD_STEPS = 2_000_000  # a tensor takes about forty, and each may leave an object behind


def read_pickled(path: Path) -> dict[str, Any]:
    """Read the named tensors of a file.

    They are those under `model`, `state_dict` or `model_state`, or at the top; values that are no
    tensors come along, so that a strict reader can name them.

    Raises:
        CheckpointError: The file cannot be read, and why.
    """
    try:
        check_regular(path)
        return _named(_content(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    # A hostile pickle can make the reader fail in any way; all of them mean the same.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason[:200]}") from None


def _content(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        try:
            _check_old_format(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError(
                "it is neither a file of torch.save nor, in the old format before torch 1.6, one "
                "of tensors alone; save its tensors again with a current torch"
            ) from None
    with zipfile.ZipFile(path) as archive:
        if any(name.rpartition("/")[2] == SCRIPTED for name in archive.namelist()):
            raise ValueError(
                "it is a TorchScript archive, which holds code beside its tensors; OpenAI's CLIP "
                "has the same weights as open_clip:ViT-B-16/openai (and the like)"
            )
        _check_entries(archive)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError:
            with path.open("rb") as file:
                return _Archive(archive, file).load()


def _check_old_format(path: Path) -> None:
    """Refuse pickles that are longer than names and sizes are, before anything is made of them."""
    with path.open("rb") as file:
        pickles = io.BytesIO(file.read(min(PICKLE_BYTES, path.stat().st_size)))
    steps = 0
    for _ in range(OLD_PICKLES):
        try:
            for _ in pickletools.genops(pickles):
                steps += 1
                if steps > OLD_STEPS:
                    raise ValueError("far more than named tensors")
        except ValueError as error:
            raise pickle.UnpicklingError(str(error)) from None


def _check_entries(archive: zipfile.ZipFile) -> None:
    """Refuse what torch never writes: parts that grow when they are read."""
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its parts are compressed; save its tensors again with torch.save")
        if entry.filename.endswith(PICKLE) and entry.file_size > PICKLE_BYTES:
            raise ValueError(f"its {PICKLE} is larger than {PICKLE_BYTES >> 20} MiB")


def _named(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not named tensors")
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {str(name).removeprefix("module."): value for name, value in content.items()}


class _Inert:
    """Stand for any object of a class that is not loaded, and do nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Drop what it would be made of."""

    def __setstate__(self, state: Any) -> None:
        """Drop its state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an entry of a mapping."""

    def append(self, item: Any) -> None:
        """Drop an item of a list."""


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    length: int


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Archive:
    """A zip file of torch: one pickle, and the bytes of each storage uncompressed beside it."""

    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO) -> None:
        self._archive = archive
        names = archive.namelist()
        self._root = next((n[: -len("data.pkl")] for n in names if n.endswith("data.pkl")), None)
        # Private: a change to a tensor stays in memory. The tensors keep the map alive.
        self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._file = file

    def load(self) -> Any:
        if self._root is None:
            raise ValueError("it is a zip file, but none of torch.save")
        order = f"{self._root}byteorder"
        if order in self._archive.namelist() and self._archive.read(order) != b"little":
            raise ValueError("it was written on a big-endian machine")
        with self._archive.open(f"{self._root}data.pkl") as pickled:
            return _Unpickler(pickled, self).load()

    def tensor(self, storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
        """Return a view into the file; torch refuses sizes that reach beyond the storage."""
        return self._storage(storage).as_strided(tuple(size), tuple(stride), offset)

    def _storage(self, storage: _Storage) -> Tensor:
        entry = self._archive.getinfo(f"{self._root}data/{storage.key}")
        if storage.length * storage.dtype.itemsize > entry.file_size:
            raise ValueError(f"storage {storage.key} is cut short")
        if storage.length == 0:
            return torch.empty(0, dtype=storage.dtype)
        return torch.frombuffer(
            self._bytes, dtype=storage.dtype, count=storage.length, offset=self._start_of(entry)
        )

    def _start_of(self, entry: zipfile.ZipInfo) -> int:
        """Find where the bytes begin: behind a header whose last fields have their own lengths."""
        header = self._bytes[entry.header_offset : entry.header_offset + 30]
        name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:], "little")
        return entry.header_offset + 30 + name + extra


class _Unpickler(pickle._Unpickler):  # its memo is a mapping; in C, as long as a file says
    """Makes tensors, plain containers and inert stand-ins; calls nothing that a file names."""

    def __init__(self, file: Any, archive: _Archive) -> None:
        super().__init__(file, encoding="utf-8")
        # Made here, so that a file which sets attributes on them changes nothing that lasts.
        self._torch = {
            ("torch._utils", "_rebuild_tensor_v2"): lambda *args: archive.tensor(*args),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
            ("collections", "OrderedDict"): OrderedDict,
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return self._torch.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, count = pid
        if not isinstance(dtype, torch.dtype):
            raise ValueError("it holds tensors of an unknown type")
        return _Storage(dtype, str(key), int(count))
