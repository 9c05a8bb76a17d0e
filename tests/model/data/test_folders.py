"""Sets out of one folder for each label."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.errors import DataError
from model.data.lists.cliplist import read_clips
from model.data.lists.folders import split_folders, write_split
from model.data.lists.labels import read_labels


def tree(root: Path, **classes: int) -> Path:
    for name, clips in classes.items():
        folder = root / name.replace("_", " ")
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("no clip")
        for i in range(clips):
            (folder / f"clip {i}.mp4").write_bytes(b"")
    return root


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    split = split_folders(tree(tmp_path, brush_hair=20, wave=2, nod=1), 0.2, seed=0)
    assert split.labels.names == ("brush hair", "nod", "wave")

    def counts(pairs: list[tuple[str, str]]) -> list[int]:
        return [sum(label == name for _, label in pairs) for name in split.labels.names]

    assert (counts(split.train), counts(split.val)) == ([16, 1, 1], [4, 0, 1])
    assert not {path for path, _ in split.train} & {path for path, _ in split.val}


def test_folders_without_clips_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path, brush_hair=2, wave=0)
    split = split_folders(root, 0.5, seed=0)
    assert (split.labels.names, split.empty) == (("brush hair",), ("wave",))


def test_the_seed_decides_and_another_class_changes_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path / "a", brush=20)
    first = split_folders(root, 0.2, seed=0)
    assert split_folders(root, 0.2, seed=0) == first
    assert split_folders(root, 0.2, seed=1) != first


def test_train_and_val_folders_are_the_two_parts(tmp_path: Path) -> None:
    tree(tmp_path / "train", wave=3, nod=2)
    tree(tmp_path / "val", wave=1)
    split = split_folders(tmp_path, 0.5, seed=0)
    assert (len(split.train), len(split.val)) == (5, 1)
    assert split.val == [("val/wave/clip 0.mp4", "wave")]


def test_written_lists_are_read_back_as_the_same_set(tmp_path: Path) -> None:
    root = tree(tmp_path / "clips", brush_hair=4, wave=4)
    split = split_folders(root, 0.25, seed=0)
    files = write_split(split, tmp_path / "lists")
    assert [file.name for file in files] == ["labels.csv", "train.csv", "val.csv"]
    clips = read_clips([files[1]], root, read_labels(files[0]))
    read = [(sample.name, clips.labels.names[sample.label]) for sample in clips.samples]
    assert read == split.train
    assert all(clips.files.holds(name) for name, _ in read)


def test_nothing_to_find_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one folder for each label"):
        split_folders(tmp_path, 0.1, seed=0)
