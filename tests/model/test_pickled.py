"""Pickled files: tensors come out, and nothing else that lies in the file is executed."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.lib.layouts import to_official
from model.checkpoint import CheckpointError, load_checkpoint
from model.checkpoints import pickled
from model.checkpoints.pickled import read_pickled
from model.network.xclip import XClip
from tests.model.conftest import same_weights


class Bomb:
    """Creates a file when it is unpickled by something that executes pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


class Settings(dict[str, Any]):
    """Like the config object that official training saves: a mapping with attributes."""


def test_other_members_of_an_official_file_are_never_executed(
    small_net: XClip, tmp_path: Path
) -> None:
    canary, settings = tmp_path / "executed", Settings(epochs=30)
    settings.frozen = True  # type: ignore[attr-defined]
    others = {"config": settings, "lr_scheduler": Bomb(canary), "max_accuracy": 80.4}
    torch.save({**to_official(small_net), **others, "optimizer": {1: {2}}}, tmp_path / "c.pth")
    assert same_weights(load_checkpoint(tmp_path / "c.pth"), small_net)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))
    assert canary.exists(), "the bomb must work, or this test shows nothing"


def test_old_format_with_other_members_is_refused_unexecuted(
    small_net: XClip, tmp_path: Path
) -> None:
    file, canary = tmp_path / "old.pth", tmp_path / "executed"
    torch.save(to_official(small_net), file, _use_new_zipfile_serialization=False)
    assert same_weights(load_checkpoint(file), small_net)
    content = {**to_official(small_net), "config": Bomb(canary)}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="save its tensors again"):
        load_checkpoint(file)
    assert not canary.exists()


class WritesWhenLoaded(torch.nn.Module):
    """TorchScript's loader runs `__setstate__`, and that can write files."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = torch.nn.Parameter(torch.zeros(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        torch.save(state[0], state[1])
        self.weight, self.path, self.training = state  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_code_of_a_torchscript_archive_is_never_executed(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    scripted = torch.jit.script(WritesWhenLoaded(str(canary)))
    canary.unlink(missing_ok=True)
    scripted.save(str(tmp_path / "ViT.pt"))
    canary.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*open_clip:ViT-B-16"):
        load_checkpoint(tmp_path / "ViT.pt")
    assert not canary.exists()
    torch.jit.load(str(tmp_path / "ViT.pt"))
    assert canary.exists(), "the archive must be harmful, or this test shows nothing"


ALLOWED = [b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_parameter"]
ALLOWED += [b"collections\nOrderedDict", b"torch\nFloatStorage", b"any\nOther"]
STATE = b"}\x8c\x04leak\x8c\x05values"  # {"leak": "value"}


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("state", [STATE, b"N" + STATE + b"\x86"])
def test_attributes_set_by_a_file_do_not_last(tmp_path: Path, name: bytes, state: bytes) -> None:
    write_archive(tmp_path / "x.pth", b"\x80\x04c" + name + b"\n" + state + b"b.")
    with pytest.raises(CheckpointError):
        read_pickled(tmp_path / "x.pth")
    reader = (pickled._Archive.tensor, pickled._Inert, pickled._Unpickler, OrderedDict)
    assert not any(hasattr(part, "leak") for part in (*reader, torch.float32))


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def write_archive(path: Path, pickled: bytes, **storages: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", b"3\n")
        for key, content in storages.items():
            archive.writestr(f"x/data/{key}", content)


class PersistentTensor(pickle.Pickler):
    """Pickles (dtype name, key, length) as torch pickles a storage."""

    def persistent_id(self, item: Any) -> Any:
        return ("storage", *item[1:]) if isinstance(item, tuple) and item[:1] == ("S",) else None


def tensor_pickle(
    size: tuple[int, ...], stride: tuple[int, ...], length: int, offset: int
) -> bytes:
    class Tensor:
        def __reduce__(self) -> Any:
            storage = ("S", torch.FloatStorage, "0", "cpu", length)
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, None)

    buffer = io.BytesIO()
    # Settings are what torch refuses, so that the file comes to the inert reader.
    PersistentTensor(buffer, protocol=2).dump({"a": Tensor(), "config": Settings()})
    return buffer.getvalue()


def test_tensors_cannot_reach_beyond_their_bytes(tmp_path: Path) -> None:
    file, numbers = tmp_path / "x.pth", torch.arange(4.0)
    content = numbers.numpy().tobytes()
    write_archive(file, tensor_pickle((2, 2), (1, 2), 4, 0), **{"0": content})
    assert torch.equal(read_pickled(file)["a"], numbers.reshape(2, 2).T)
    for size, stride, length, offset in (
        ((5,), (1,), 4, 0),
        ((4,), (1,), 4, 1),
        ((4,), (1,), 400, 0),
        ((4,), (-1,), 4, 3),
        ((2**40,), (1,), 4, 0),
        ((4,), (1,), -4, 0),
    ):
        write_archive(file, tensor_pickle(size, stride, length, offset), **{"0": content})
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            read_pickled(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"PK\x03\x04broken", pickle.dumps([1]), pickle.dumps({"a": 1})],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "x.pth")


def test_other_archives_and_contents_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds a list, not named tensors"):
        load_checkpoint(saved(tmp_path / "y.pth", [torch.ones(2)]))


def test_a_file_does_not_say_how_much_is_remembered(tmp_path: Path) -> None:
    """Twenty bytes that put one value at a far place in the unpickler's memo."""
    path = tmp_path / "memo.pth"
    write_archive(path, b"\x80\x02c__main__\nX\n0Nr\xff\xff\xff\x02.")
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 << 20


def old_file(path: Path, pickled: bytes, storages: bytes = b"") -> Path:
    """A file as torch before 1.6 wrote it, with this pickle for its content."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    path.write_bytes(b"".join([*parts, pickled, pickle.dumps(["0"], protocol=2), storages]))
    return path


OLD_AND_HOSTILE = {
    "many objects": b"\x80\x02(" + b"]" * 30_000 + b"l.",
    "a far place in the memo": b"\x80\x02}r\xff\xff\xff\x02.",
    "a text that is not there": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes that are not there": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "a number that is not there": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "no end": b"\x80\x02(" + b"]" * 1000,
    "a call": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "another call": b"\x80\x02cbuiltins\nexec\nX\x04\x00\x00\x00passq\x00\x85R.",
    "a class by its number": b"\x80\x02\x82\x01.",
    "a tensor larger than the file": tensor_pickle((2**34,), (1,), 2**34, 0),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", OLD_AND_HOSTILE)
def test_hostile_files_of_the_old_format(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line each, and no more memory than the file may have."""
    monkeypatch.setattr(pickled, "OLD_STEPS", 20_000)
    path = old_file(tmp_path / "old.pth", OLD_AND_HOSTILE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as refused:
            load_checkpoint(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert most < 64 << 20


def test_a_tar_archive_of_torch_is_refused_and_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle", "../escaped"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02N."))
    with pytest.raises(CheckpointError, match="save its tensors again"):
        load_checkpoint(tmp_path / "old.pth")
