"""Label lists: class index is row order; what is wrong is named with its row."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.label_file import read_label_file


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_in_file_order_with_quoted_commas(tmp_path: Path) -> None:
    path = write(tmp_path, 'id,name\n7,kick ball\n0,"putting [something], then waiting"\n3,kick\n')
    assert read_label_file(path) == ("kick ball", "putting [something], then waiting", "kick")


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    assert read_label_file(write(tmp_path, "\ufeffid,name\r\n0,swim\r\n")) == ("swim",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header id,name"),
        ("id,name\n", "at least one row"),
        ("number,label\n0,swim\n", "header id,name"),
        ("id,name\n0,swim\n1, \n", "row 3"),
        ("id,name\n0,swim\n1\n", "row 3"),
        ("id,name\n0,swim\n1,run\n2,Swim \n", "row 4: 'Swim' stands in row 2 already"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_file(write(tmp_path, text))


def test_a_missing_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.csv cannot be read"):
        read_label_file(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="cannot be read"):
        read_label_file(write(tmp_path, "id,name\n0,\xff\xfe", "latin-1"))
