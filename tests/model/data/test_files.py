"""Folders, tar files and shards: the same bytes at random places."""

from __future__ import annotations

import multiprocessing
import tarfile
from pathlib import Path
from typing import Any

import pytest

from model.data.errors import DataError
from model.data.lists.cliplist import open_files, read_clips
from model.data.lists.files import Tar, list_members
from model.data.lists.shard_writer import write_shards


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few files and the same in tars: of the whole, and of one folder."""
    root = tmp_path / "root"
    for name, content in {"a/x y.mp4": b"one", "a/z.mp4": b"two", "b/z.mp4": b"three"}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(root, arcname=".")
    with tarfile.open(tmp_path / "root" / "c.tar", "w") as tar:
        tar.add(root / "a" / "z.mp4", arcname="deep/below/z.mp4")
    return tmp_path


def read(files: Any, name: str) -> bytes:
    with files.open(name) as stream:
        content: bytes = stream.read()
    return content


def test_members_by_path_and_by_base_name(tree: Path) -> None:
    tar = open_files(tree / "all.tar")
    assert read(tar, "a/x y.mp4") == b"one"
    assert read(tar, "somewhere/else/x y.mp4") == b"one"
    assert tar.holds("b/z.mp4")
    assert not tar.holds("none.mp4")


def test_an_ambiguous_base_name_is_not_guessed(tree: Path) -> None:
    tar = open_files(tree / "all.tar")
    assert read(tar, "b/z.mp4") == b"three"
    with pytest.raises(FileNotFoundError):
        tar.open("other/z.mp4")


def test_a_tar_stands_in_for_a_folder(tree: Path) -> None:
    folder = open_files(tree / "root")
    assert read(folder, "c/z.mp4") == b"two"
    assert folder.holds("c/z.mp4")
    assert not folder.holds("c/none.mp4")
    with pytest.raises(FileNotFoundError):
        folder.open("d/z.mp4")


def test_versions_change_with_the_file(tree: Path) -> None:
    folder = open_files(tree / "root")
    before = folder.version("a/z.mp4")
    (tree / "root" / "a" / "z.mp4").write_bytes(b"longer than before")
    assert folder.version("a/z.mp4") != before
    assert folder.version("none.mp4") == ""


def test_compressed_cut_and_foreign_files_are_refused(tree: Path) -> None:
    with tarfile.open(tree / "packed.tar", "w:gz") as tar:
        tar.add(tree / "root", arcname=".")
    whole = (tree / "all.tar").read_bytes()
    (tree / "cut.tar").write_bytes(whole[:1700])
    (tree / "text.tar").write_text("no tar " * 200)
    for name in ("packed", "cut", "text", "none"):
        with pytest.raises(DataError, match=rf"{name}\.tar"):
            list_members(tree / f"{name}.tar")


def test_processes_read_one_tar_at_once(tmp_path: Path) -> None:
    """Each opens the archive for itself: a shared position would mix their members up."""
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for i in range(40):
            file = tmp_path / f"{i}.bin"
            file.write_bytes(bytes([i]) * 50_000)
            tar.add(file, arcname=file.name)
    files = Tar(tmp_path / "many.tar")
    assert read(files, "0.bin") == bytes(50_000)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        wrong = pool.starmap(_differs, [(files, i % 40) for i in range(400)], chunksize=10)
    assert not any(wrong)


def _differs(files: Tar, number: int) -> bool:
    return read(files, f"{number}.bin") != bytes([number]) * 50_000


def test_shards_hold_the_same_clips_labels_and_wordings(clip_set: Path, tmp_path: Path) -> None:
    clips = read_clips([clip_set / "train.csv"], clip_set / "clips")
    assert list(write_shards(clips, tmp_path)) == [sample.name for sample in clips.samples]
    packed = read_clips(sorted(tmp_path.glob("*.tar")), None, clips.labels)
    assert [s.label for s in packed.samples] == [s.label for s in clips.samples]
    assert packed.wordings == clips.wordings
    for one, other in zip(clips.samples, packed.samples, strict=True):
        assert read(clips.files, one.name) == read(packed.files, other.name)
    with pytest.raises(DataError, match="holds shards already"):
        next(write_shards(clips, tmp_path))


def test_shards_of_others(tmp_path: Path) -> None:
    """Class numbers and names in members of their own, as other tools write them."""
    for name, content in {"1.mp4": b"x", "1.cls": b"1\n", "2.webm": b"y", "2.txt": b"wave"}.items():
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("1.mp4", "1.cls", "2.webm", "2.txt"):
            tar.add(tmp_path / name, arcname=name)
    from model.data.lists.labels import LabelList

    clips = read_clips([tmp_path / "s.tar"], None, LabelList(("nod", "wave")))
    assert [sample.label for sample in clips.samples] == [1, 1]
    assert read(clips.files, clips.samples[1].name) == b"y"


def test_a_sample_without_a_label_is_named(tmp_path: Path) -> None:
    (tmp_path / "7.mp4").write_bytes(b"x")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "7.mp4", arcname="7.mp4")
    with pytest.raises(DataError, match="sample 7: the label is missing"):
        read_clips([tmp_path / "s.tar"], None)
