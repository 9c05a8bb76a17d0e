"""Label files as the datasets ship them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.errors import DataError
from model.data.lists.labels import LabelList, read_labels, write_labels


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "labels.csv"
    file.write_text(text, encoding=encoding)
    return file


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,kick ball\n1,kick\n2,sword\n",
        "id,name\n0.0,kick ball\n1.0,kick\n2.0,sword\n",
        "name\nkick ball\nkick\nsword\n",
        "name,id\nkick ball,0\nkick,1\nsword,2\n",
        "ID;Name\r\n0; kick ball\r\n1;kick\r\n\r\n2;sword\r\n;\r\n",
        "# classes\nid\tname\n0\tkick ball\n# another\n1\tkick\n2\tsword",
    ],
)
def test_the_class_is_the_row(tmp_path: Path, text: str) -> None:
    assert read_labels(written(tmp_path, text)).names == ("kick ball", "kick", "sword")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (("1", "0"), r"row 2: id 1 should be 0: ids count the rows from 0; sort the rows by id"),
        (("1", "2"), r"row 2: id 1 should be 0"),
        (("0", "2"), r"row 3: id 2 should be 1"),
        (("0", "0"), r"row 3: id 0 should be 1"),
        (("0", ""), r"row 3: id is empty, it should be 1"),
        (("0", "1.5"), r"row 3: id 1\.5 should be 1"),
        (("0", "nan"), r"row 3: id nan should be 1"),
    ],
)
def test_ids_that_contradict_the_order_of_rows_are_refused(
    tmp_path: Path, ids: tuple[str, str], said: str
) -> None:
    """Every clip would get the name of another class."""
    with pytest.raises(DataError, match=said):
        read_labels(written(tmp_path, f"id,name\n{ids[0]},sit\n{ids[1]},wave\n"))


def test_quoted_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = written(tmp_path, 'id,name\n0,"Pushing something, so that it falls"\n', "utf-8-sig")
    assert read_labels(file).names == ("Pushing something, so that it falls",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\n0,a\n", "header id,name"),
        ("", "needs the header id,name as its first line; it is empty"),
        ("0,sit\n1,wave\n", "needs the header id,name as its first line; it begins with '0,sit'"),
        ("id,name\n", "at least one row"),
        ("id,name\n0,pick up, throw\n1,sit\n", "row 2: 3 fields, the header has 2: put quotes"),
        ("id,name\n0,sit\n1\n", "row 3: 1 field, the header has 2"),
        ('id,name\n0,"sit\n1,b\n', "row 2: quotes must"),
        ('id,name\n0,"sit" down\n1,b\n', "row 2: quotes must"),
        ("id,name,name\n0,sit,a\n", "has the column name twice"),
        ("id,name\n0,a\n1,  \n", "row 3"),
        ("id,name\n0,Kick ball\n1,b\n2,kick  ball\n", "row 4: 'kick ball' stands in row 2 already"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_labels(written(tmp_path, text))


def test_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist: correct the path"):
        read_labels(tmp_path / "none.csv")


def test_names_are_found_whatever_their_case_and_spacing() -> None:
    labels = LabelList(("Brush hair", "wave"))
    assert [labels.find(name) for name in ("brush  HAIR", "wave", "waving", "")] == [
        0,
        1,
        None,
        None,
    ]


def test_written_labels_are_read_back(tmp_path: Path) -> None:
    names = ('say "hi", twice', "ApplyEyeMakeup", "grüßen")
    write_labels(tmp_path / "labels.csv", names)
    assert read_labels(tmp_path / "labels.csv").names == names
