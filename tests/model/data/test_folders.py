"""Sets out of one folder for each label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.data.__main__ import main
from model.data.errors import DataError
from model.data.lists.cliplist import read_clips
from model.data.lists.folders import Split, split_folders, write_split
from model.data.lists.labels import read_labels


def tree(root: Path, **classes: int) -> Path:
    """Folders of files that only their names tell from clips, each with bytes of its own."""
    for name, clips in classes.items():
        folder = root / name.replace("_", " ")
        folder.mkdir(parents=True)
        for i in range(clips):
            (folder / f"clip {i}.mp4").write_bytes(f"{name} {i}".encode())
    return root


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def labels_of(root: Path) -> tuple[str, ...]:
    return split_folders(root, 0.1, seed=0).labels.names


def held(split: Split) -> set[str]:
    return {path for path, _ in split.val}


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    split = split_folders(tree(tmp_path, brush_hair=200, wave=2, nod=1), 0.2, seed=0)
    assert split.labels.names == ("brush hair", "nod", "wave")

    def counts(pairs: list[tuple[str, str]]) -> list[int]:
        return [sum(label == name for _, label in pairs) for name in split.labels.names]

    val = counts(split.val)
    assert 20 <= val[0] <= 60  # 40 are expected; the hashes of these files are what they are
    assert val[1:] == [0, 1]
    assert [a + b for a, b in zip(counts(split.train), val, strict=True)] == [200, 1, 2]
    assert not {path for path, _ in split.train} & held(split)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_every_class_keeps_clips_to_train_on(tmp_path: Path, share: float) -> None:
    split = split_folders(tree(tmp_path, wave=5, nod=1), share, seed=0)
    assert {label for _, label in split.train} == {"wave", "nod"}
    assert len(split.val) == (4 if share else 0)


def test_the_seed_decides_and_another_class_changes_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path / "a", brush=20)
    first = split_folders(root, 0.2, seed=0)
    assert split_folders(root, 0.2, seed=0) == first
    assert split_folders(root, 0.2, seed=1) != first
    tree(root, wave=20)
    assert {path for path in held(split_folders(root, 0.2, seed=0)) if "brush" in path} == held(
        first
    )


def test_clips_stay_on_their_side_when_others_come_and_go_and_when_they_are_renamed(
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, wave=40, nod=40)
    before = held(split_folders(root, 0.3, seed=0))
    for i in range(0, 40, 4):
        (root / "wave" / f"clip {i}.mp4").unlink()
    put(root, *(f"wave/new {i}.mp4" for i in range(10)), "sit/a.mp4", "sit/b.mp4")
    gone = {path for path in before if not (root / path).exists()}
    after = {path for path in held(split_folders(root, 0.3, seed=0)) if "clip" in path}
    assert gone
    assert after == before - gone
    (root / "nod").rename(root / "nodding")
    after = {path.replace("nodding", "nod") for path in held(split_folders(root, 0.3, seed=0))}
    assert {path for path in after if "clip" in path} == before - gone


def test_copies_of_a_clip_are_on_one_side(tmp_path: Path) -> None:
    root = tree(tmp_path, wave=10, nod=10)
    for path in [*root.glob("*/*.mp4")]:
        (path.parent / f"copy of {path.name}").write_bytes(path.read_bytes())
    (root / "nod" / "also.mp4").write_bytes((root / "wave" / "clip 3.mp4").read_bytes())
    split = split_folders(root, 0.3, seed=0)
    assert split.val

    def contents(pairs: list[tuple[str, str]]) -> set[bytes]:
        return {(root / path).read_bytes() for path, _ in pairs}

    assert not contents(split.train) & contents(split.val)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", None),
        ("Train", "Val", None),
        ("TRAIN", "validation", "test"),
        ("training", "valid", "Testing"),
        ("train", "dev", "eval"),
    ],
)
def test_folders_of_the_usual_names_are_the_parts(
    tmp_path: Path, train: str, val: str, test: str | None
) -> None:
    tree(tmp_path / train, wave=3, nod=2)
    tree(tmp_path / val, wave=1)
    if test:
        tree(tmp_path / test, nod=2)
    split = split_folders(tmp_path, 0.5, seed=0)
    assert split.labels.names == ("nod", "wave")
    assert (len(split.train), len(split.val), len(split.test)) == (5, 1, 2 if test else 0)
    assert split.val == [(f"{val}/wave/clip 0.mp4", "wave")]


@pytest.mark.parametrize("parts", [("train",), ("train", "test")])
def test_without_a_folder_for_val_a_part_of_train_is_drawn(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    for part in parts:
        tree(tmp_path / part, wave=8, nod=8)
    split = split_folders(tmp_path, 0.25, seed=0)
    assert split.labels.names == ("nod", "wave")
    assert {path.split("/")[0] for path in held(split)} == {"train"}
    assert len(split.train) + len(split.val) == 16
    assert len(split.test) == 16 * (len(parts) - 1)
    assert any("no folder for val" in note for note in split.notes) == (len(parts) == 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert labels_of(tree(tmp_path, car=2, train=2)) == ("car", "train")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("val/wave/a.mp4", "test/wave/b.mp4"), "has test, val and no train"),
        (("train/wave/a.mp4", "nod/b.mp4"), "nod in .* beside train: move the clips"),
        (("train/wave/a.mp4", "val/wave/b.mp4", "valid/nod/c.mp4"), "two folders for val: val and"),
        (("train/a.mp4", "val/b.mp4"), "train, val in .*: clips and no folders"),
        (("train/a.mp4",), "train in .*: clips and no folders"),
        (("set/wave/a.mp4", "set/nod/b.mp4"), "one folder too many"),
        (
            ("set/train/wave/a.mp4", "set/val/wave/b.mp4"),
            "train, val and test must lie above|too m",
        ),
        (("train/set/wave/a.mp4", "train/set/nod/b.mp4"), "one folder too many"),
        (
            ("wave/train/a.mp4", "wave/val/b.mp4", "nod/train/c.mp4", "nod/val/d.mp4"),
            "must lie above the labels",
        ),
        (("a.mp4", "b.mp4"), "one folder for each label"),
        (("wave/a.txt",), "one folder for each label"),
    ],
)
def test_folders_that_fit_no_plan_are_refused_by_name(
    tmp_path: Path, names: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "clips", *names)
    with pytest.raises(DataError, match=said):
        split_folders(tmp_path / "clips", 0.1, seed=0)
    assert main(["folders", str(tmp_path / "clips"), "--output", str(tmp_path / "lists")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "lists").exists()


def test_what_systems_leave_in_folders_is_neither_clip_nor_label(tmp_path: Path) -> None:
    put(tmp_path, *(f"wave/{i}.mp4" for i in range(4)), *(f"nod/{i}.mp4" for i in range(4)))
    side = (
        "wave/._0.mp4", "wave/.hidden.mp4", "wave/@eaDir/SYNOVIDEO_thumb.mp4", "wave/Thumbs.db",
        "__MACOSX/wave/._0.mp4", "$RECYCLE.BIN/x.mp4", ".Trash-1000/x.mp4",
        ".ipynb_checkpoints/x.mp4", "System Volume Information/x.mp4", "nod/.DS_Store",
    )  # fmt: skip
    put(tmp_path, *side)
    split = split_folders(tmp_path, 0.25, seed=0)
    assert split.labels.names == ("nod", "wave")
    assert len(split.train) + len(split.val) == 8
    assert [note for note in split.notes if note.startswith("left out, hidden")] == [
        "left out, hidden, or left there by a system (10): $RECYCLE.BIN, .Trash-1000, "
        ".ipynb_checkpoints, System Volume Information, __MACOSX and 5 more"
    ]


@pytest.mark.parametrize(
    "ending", [".MTS", ".M2TS", ".3gp", ".Wmv", ".flv", ".MPG", ".MOV", ".ogv"]
)
def test_endings_of_videos_are_known_in_any_case(tmp_path: Path, ending: str) -> None:
    put(tmp_path, f"wave/a{ending}", f"wave/b{ending}", "nod/c.mp4")
    assert labels_of(tmp_path) == ("nod", "wave")


def test_everything_left_out_is_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path, "wave/a.mp4", "wave/b.mp4", "nod/c.mp4", "nod/c.srt", "nod/cover.jpg", "d.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wave" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "wave" / "pipe.mp4")
    assert split_folders(tmp_path, 0.1, seed=0).notes == (
        "left out, no clips in them (1): empty",
        "left out, no known ending of a video (2): nod/c.srt, nod/cover.jpg",
        "left out, links that lead nowhere, and devices (2): wave/gone.mp4, wave/pipe.mp4",
        "left out, clips outside the folders of labels (1): d.mp4",
    )


def test_clips_behind_links_to_folders_are_found_once(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.mp4", "elsewhere/b.mp4", "set/nod/c.mp4", "set/wave/d.mp4")
    (tmp_path / "set" / "wave" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "sit").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "nod" / "round").symlink_to(tmp_path / "set" / "nod")
    split = split_folders(tmp_path / "set", 0.0, seed=0)
    assert sorted(path for path, _ in split.train) == [
        "nod/c.mp4", "sit/a.mp4", "sit/b.mp4", "wave/d.mp4", "wave/more/a.mp4", "wave/more/b.mp4",
    ]  # fmt: skip
    assert "folders in folders of labels, whose name is no label: wave/more" in split.notes


def test_folders_that_are_one_label_to_the_network_are_told(tmp_path: Path) -> None:
    put(tmp_path, "Cat/a.mp4", "cat/b.mp4", "dog/c.mp4")
    split = split_folders(tmp_path, 0.0, seed=0)
    assert split.labels.names == ("Cat", "dog")
    assert "one label to the network: Cat, cat: joined as Cat" in split.notes


def test_labels_that_only_val_has_are_told(tmp_path: Path) -> None:
    put(tmp_path, "train/wave/a.mp4", "val/wave/b.mp4", "val/nod/c.mp4")
    assert "no clips to train on (1): nod" in split_folders(tmp_path, 0.1, seed=0).notes


def test_names_that_are_no_text_are_left_out_and_nothing_is_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path / "clips", wave=4, nod=4)
    (root / "wave" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    (root / os.fsdecode(b"\xe9t\xe9")).mkdir()
    assert main(["folders", str(root), "--output", str(tmp_path / "lists")]) == 0
    out = capsys.readouterr().out
    assert r"left out, a name that is not UTF-8 (2): wave/caf\udce9.mp4, \udce9t\udce9" in out
    clips = read_clips([tmp_path / "lists" / "train.csv"], root)
    assert all(clips.files.holds(sample.name) for sample in clips.samples)


def test_written_lists_are_read_back_as_the_same_set(tmp_path: Path) -> None:
    root = tree(tmp_path / "clips", brush_hair=4, wave=4)
    put(root, '#new, "odd"/# 1.mp4', '#new, "odd"/ b; c .mp4', "007/x\ty.mp4", "nan/é.mp4")
    split = split_folders(root, 0.25, seed=0)
    files = write_split(split, tmp_path / "lists")
    assert [file.name for file in files] == ["labels.csv", "train.csv", "val.csv"]
    labels = read_labels(files[0])
    for file, pairs in zip(files[1:], (split.train, split.val), strict=True):
        clips = read_clips([file], root, labels)
        read = [
            (sample.name.removeprefix("./"), clips.labels.names[sample.label])
            for sample in clips.samples
        ]
        assert read == pairs
        assert all(clips.files.holds(sample.name) for sample in clips.samples)


def test_lists_of_an_earlier_split_do_not_stay(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        tree(tmp_path / "clips" / part, wave=2, nod=2)
    lists = tmp_path / "lists"
    write_split(split_folders(tmp_path / "clips", 0.1, seed=0), lists)
    assert len(list(lists.iterdir())) == 4
    write_split(split_folders(tree(tmp_path / "other", sit=1, nod=1), 0.1, seed=0), lists)
    assert sorted(file.name for file in lists.iterdir()) == ["labels.csv", "train.csv"]


def test_all_lists_are_written_or_none(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    write_split(split_folders(tree(tmp_path / "clips", wave=8, nod=8), 0.3, seed=0), lists)
    before = {file.name: file.read_bytes() for file in lists.iterdir()}
    split = split_folders(tree(tmp_path / "more", sit=8, hop=8), 0.3, seed=0)
    broken = Split(split.labels, split.train, [(os.fsdecode(b"\xe9.mp4"), "sit")], [])
    with pytest.raises(UnicodeEncodeError):
        write_split(broken, lists)
    assert {file.name: file.read_bytes() for file in lists.iterdir()} == before


def test_nothing_to_find_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one folder for each label"):
        split_folders(tmp_path, 0.1, seed=0)
