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


def test_class_is_the_row_and_the_id_is_not_looked_at(tmp_path: Path) -> None:
    file = written(tmp_path, "id,name\n7,kick ball\n3,kick\n0,sword exercise\n")
    assert read_labels(file).names == ("kick ball", "kick", "sword exercise")


def test_quoted_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = written(tmp_path, 'id,name\n0,"Pushing something, so that it falls"\n', "utf-8-sig")
    assert read_labels(file).names == ("Pushing something, so that it falls",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\n0,a\n", "header id,name"),
        ("id,name\n", "at least one row"),
        ("id,name\n0,a\n1,  \n", "row 3"),
        ("id,name\n0,Kick ball\n1,b\n2,kick  ball\n", "places 0 and 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_labels(written(tmp_path, text))


def test_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist: set data\.labels"):
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
