"""Lists, tables and shards as one set."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from model.data.errors import DataError
from model.data.lists.cliplist import UNLABELLED, read_clips
from model.data.lists.labels import LabelList
from tests.model.clip_sets import write_table

LABELS = LabelList(("ball", "kick ball", "sword"))


def listed(folder: Path, text: str, name: str = "list.txt") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def pairs(file: Path, labels: LabelList | None = LABELS) -> list[tuple[str, str]]:
    clips = read_clips([file], file.parent, labels)
    return [(sample.name, clips.labels.names[sample.label]) for sample in clips.samples]


def test_published_lists_give_a_path_and_a_class_number(tmp_path: Path) -> None:
    file = listed(tmp_path, "a/b.mp4 2\n\nc.avi 0\n")
    assert pairs(file) == [("a/b.mp4", "sword"), ("c.avi", "ball")]


def test_paths_may_hold_spaces(tmp_path: Path) -> None:
    assert pairs(listed(tmp_path, "my videos/a 1.mp4 1\n")) == [("my videos/a 1.mp4", "kick ball")]


def test_names_may_hold_spaces_and_the_longest_known_one_counts(tmp_path: Path) -> None:
    file = listed(tmp_path, "ball/a 3.mp4 kick ball\nb.mp4 ball\nkick ball.mp4 sword\n")
    assert pairs(file) == [
        ("ball/a 3.mp4", "kick ball"),
        ("b.mp4", "ball"),
        ("kick ball.mp4", "sword"),
    ]


def test_a_tab_separates_without_guessing(tmp_path: Path) -> None:
    file = listed(tmp_path, "kick ball\tball\n")
    assert pairs(file) == [("kick ball", "ball")]


def test_tables_of_names_or_numbers(tmp_path: Path) -> None:
    named = write_table(tmp_path / "a.csv", [("a, b.mp4", "SWORD"), ("c.mp4", "ball")])
    numbered = write_table(tmp_path / "b.csv", [("a, b.mp4", 2), ("c.mp4", 0)])
    assert pairs(named) == pairs(numbered) == [("a, b.mp4", "sword"), ("c.mp4", "ball")]


def test_names_made_of_digits_are_names_where_all_labels_are_names(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", [("a.mp4", "3"), ("b.mp4", "1")])
    digits = LabelList(("5", "3", "1"))
    assert pairs(file, digits) == [("a.mp4", "3"), ("b.mp4", "1")]


def test_without_a_label_file_the_names_that_occur_are_the_classes(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", [("a.mp4", "wave"), ("b.mp4", "nod"), ("c.mp4", "Wave")])
    clips = read_clips([file], tmp_path)
    assert clips.labels.names == ("wave", "nod")
    assert clips.per_class() == [2, 1]


def test_wordings_come_from_the_column_captions(tmp_path: Path) -> None:
    rows = [("a.mp4", "wave", '["waving", "someone waves"]'), ("b.mp4", "wave", "")]
    text = write_table(tmp_path / "a.csv", rows, ("path", "label", "captions"))
    columns = {
        "path": ["a.mp4", "b.mp4"],
        "label": ["wave", "wave"],
        "captions": [["waving", "someone waves"], None],
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    for file in (text, tmp_path / "a.parquet"):
        clips = read_clips([file], tmp_path)
        assert clips.wordings == ("waving", "someone waves", "wave")
        assert [sample.wordings for sample in clips.samples] == [(0, 1), (2,)]


def test_lists_are_read_as_one_set(tmp_path: Path) -> None:
    one = write_table(tmp_path / "a.csv", [("a.mp4", "wave")])
    two = write_table(tmp_path / "b.csv", [("b.mp4", "nod"), ("c.mp4", "wave")])
    clips = read_clips([one, two], tmp_path)
    assert [sample.label for sample in clips.samples] == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.mp4 3\n", r"line 1: class 3 does not exist, there are 3 labels"),
        ("a.mp4 0\nb.mp4 juggling\n", r"line 2: label 'juggling' is not among the 3"),
        ("a.mp4\n", r"line 1: the label is missing"),
        ("a\n", r"line 1: .* needs a path and a label"),
        ("", "names no clip"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_clips([listed(tmp_path, text)], tmp_path, LABELS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "a b.mp4\n# mine\nc.mp4 sword\n"),
        ("a.txt", "path,label\na b.mp4,\nc.mp4,sword\n"),
        ("a.csv", "path;label\na b.mp4;\nc.mp4;2\n"),
    ],
)
def test_clips_may_be_without_a_label_where_that_is_asked_for(
    tmp_path: Path, name: str, text: str
) -> None:
    file = listed(tmp_path, text, name)
    clips = read_clips([file], tmp_path, LABELS, unlabelled=True)
    assert [(s.name, s.label, s.wordings) for s in clips.samples] == [
        ("a b.mp4", UNLABELLED, ()),
        ("c.mp4", 2, (0,)),
    ]
    assert (clips.unlabelled, clips.per_class()) == (1, [0, 0, 1])
    with pytest.raises(DataError, match=r"(line|row) \d: the label is missing"):
        read_clips([file], tmp_path, LABELS)


def test_tables_and_shards_may_be_without_labels_altogether(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"Path": ["a.mp4"]}), tmp_path / "a.parquet")
    (tmp_path / "7.mp4").write_bytes(b"x")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "7.mp4", arcname="7.mp4")
    listed(tmp_path, "path\na.mp4\n", "b.csv")
    for name in ("a.parquet", "s.tar", "b.csv"):
        clips = read_clips([tmp_path / name], tmp_path, LABELS, unlabelled=True)
        assert (len(clips), clips.unlabelled) == (1, 1)


def test_a_label_column_that_is_misspelt_is_not_taken_for_none(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a.mp4"], "lable": ["nod"]}), tmp_path / "a.parquet")
    listed(tmp_path, "path,lable\na.mp4,nod\n", "b.csv")
    for name in ("a.parquet", "b.csv"):
        with pytest.raises(DataError, match=r"columns path and label; it has path, lable"):
            read_clips([tmp_path / name], tmp_path, LABELS, unlabelled=True)


def test_class_numbers_need_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set data\.labels"):
        read_clips([listed(tmp_path, "a.mp4 0\n")], tmp_path)


def test_a_missing_list_and_a_missing_root_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist: correct the path"):
        read_clips([tmp_path / "none.txt"], tmp_path)
    with pytest.raises(DataError, match=r"set data\.root"):
        read_clips([listed(tmp_path, "a.mp4 x\n")], tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"set data\.train"):
        read_clips([], tmp_path)


def test_broken_captions_and_missing_columns_are_named(tmp_path: Path) -> None:
    rows = [("a.mp4", "wave", "waving")]
    with pytest.raises(DataError, match="row 2: captions must be a list"):
        read_clips([write_table(tmp_path / "a.csv", rows, ("path", "label", "captions"))], tmp_path)
    with pytest.raises(
        DataError,
        match="needs the header path,label as its first line; it begins with 'file,label'",
    ):
        read_clips([write_table(tmp_path / "b.csv", [("a", "b")], ("file", "label"))], tmp_path)
