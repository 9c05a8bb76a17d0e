"""Lists as people and programs write them: taken as they are meant, or refused with the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from model.data.__main__ import main
from model.data.errors import DataError
from model.data.lists.cliplist import read_clips
from model.data.lists.labels import LabelList, read_labels

NUMBERED = LabelList(("nod", "wave", "sit", "pick up"))


def pairs(folder: Path, data: str | bytes, name: str, labels: LabelList | None) -> Any:
    file = folder / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    clips = read_clips([file], folder, labels)
    return [(sample.name, clips.labels.names[sample.label]) for sample in clips.samples]


@pytest.mark.parametrize(
    "data",
    [
        "path,label\na.mp4,wave\nb c.mp4,sit\n",
        "path, label\na.mp4, wave\nb c.mp4, sit\n",
        "Path,LABEL\r\na.mp4,wave\r\nb c.mp4,sit\r\n",
        "path;label\na.mp4;wave\nb c.mp4;sit\n",
        "path\tlabel\na.mp4\twave\nb c.mp4\tsit\n",
        "label|path\nwave|a.mp4\nsit|b c.mp4\n",
        "sep=;\npath;label\na.mp4;wave\nb c.mp4;sit\n",
        "# made by hand\n\npath,label\n# first\na.mp4,wave\n\n,\nb c.mp4,sit\n",
        '"path","label"\n"a.mp4","wave"\n"b c.mp4", "sit"',
        "path,label,seconds,\na.mp4,wave,3,\nb c.mp4,sit,4,\n",
        "path,label\ra.mp4,wave\rb c.mp4,sit\r",
        "\ufeffpath,label\na.mp4,wave\nb c.mp4,sit\n",
        "path,label\na.mp4,wave\nb c.mp4,sit\n".encode("utf-16"),
        b"\xfe\xff" + "path;label\r\na.mp4;wave\r\nb c.mp4;sit\r\n".encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV", "list.tsv", "list.txt"])
def test_a_table_is_read_whatever_program_wrote_it(
    tmp_path: Path, data: str | bytes, name: str
) -> None:
    assert pairs(tmp_path, data, name, None) == [("a.mp4", "wave"), ("b c.mp4", "sit")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\nwave/a, b.mp4,wave\n", r"row 2: 3 fields, the header has 2: put quotes"),
        ("path,label\na.mp4,sit\nb.mp4,pick up, throw\n", r"row 3: 3 fields"),
        ("path;label\na.mp4;pick up; throw\n", r"row 2: 3 fields.* that holds a semicolon"),
        ("path,label,captions\na.mp4,wave\n", r"row 2: 2 fields, the header has 3"),
        ("wave/a.mp4,wave\nwave/b, c.mp4,wave\n", r"needs the header path,label .* 'wave/a\.mp4,w"),
        ("# comment\na.mp4,wave\n", r"needs the header path,label .* begins with 'a\.mp4,wave'"),
        ('path,label\n"a.mp4,wave\nb.mp4,sit\n', r"row 2: quotes must stand around a whole field"),
        ("path,label\na.mp4,\n", r"row 2: the label is missing"),
        ("path,label\n,wave\n", r"row 2: the path is empty"),
        ("path,label,path\na.mp4,wave,b\n", r"has the column path twice"),
        ('path,label\n"a\nb.mp4",wave\nc.mp4,nan\n', r"row 4: label 'nan' stands for a missing"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        pairs(tmp_path, text, "list.csv", None)


@pytest.mark.parametrize(
    "label", ["nan", "NaN", "None", "null", "True", "false", "N/A", "-1", "3.5", "1e3", "b.mp4"]
)
def test_what_is_hardly_a_name_is_no_label_unless_a_label_file_has_it(
    tmp_path: Path, label: str
) -> None:
    text = f"path,label\na.mp4,wave\nb.mp4,{label}\n"
    with pytest.raises(DataError, match=rf"row 3: label '{label}' .*data\.labels"):
        pairs(tmp_path, text, "list.csv", None)
    with pytest.raises(DataError, match=rf"row 3: label '{label}' is not among the 4"):
        pairs(tmp_path, text, "list.csv", NUMBERED)
    assert pairs(tmp_path, text, "list.csv", LabelList(("wave", label)))[1] == ("b.mp4", label)


def test_class_numbers_may_be_floats(tmp_path: Path) -> None:
    text = "path,label\n12345.webm,3.0\n12346.webm,1.0\n"
    assert [label for _, label in pairs(tmp_path, text, "list.csv", NUMBERED)] == [
        "pick up",
        "wave",
    ]
    with pytest.raises(DataError, match=r"set data\.labels"):
        pairs(tmp_path, text, "list.csv", None)
    with pytest.raises(DataError, match="class 4 does not exist"):
        pairs(tmp_path, text.replace("3.0", "4.0"), "list.csv", NUMBERED)


def test_a_label_that_is_misspelt_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: label 'weave' .*did you mean 'wave'"):
        pairs(tmp_path, "path,label\na.mp4,weave\n", "list.csv", NUMBERED)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([1.0, float("nan")], "row 2: the label is missing"),
        ([1, None], "row 2: the label is missing"),
        ([True, False], "row 1: True is neither"),
        ([1.5, 2.0], "row 1: 1.5 is neither"),
        ([-1, 2], "row 1: -1 is neither"),
        ([b"wave", b"sit"], "row 1: b'wave' is neither"),
        ([["wave"], ["sit"]], r"row 1: \['wave'\] is neither"),
    ],
)
def test_a_parquet_label_that_is_no_label_is_refused(
    tmp_path: Path, column: list[Any], said: str
) -> None:
    file = tmp_path / "list.parquet"
    parquet.write_table(pa.table({"path": ["a.mp4", "b.mp4"], "label": column}), file)
    for labels in (None, NUMBERED):
        with pytest.raises(DataError, match=said):
            read_clips([file], tmp_path, labels)


def test_a_parquet_of_numbers_is_read(tmp_path: Path) -> None:
    for column in ([1, 3], [1.0, 3.0], ["1", "3.0"]):
        file = tmp_path / "list.parquet"
        parquet.write_table(pa.table({"Path": ["a.mp4", "b.mp4"], "label": column}), file)
        clips = read_clips([file], tmp_path, NUMBERED)
        assert [sample.label for sample in clips.samples] == [1, 3]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("my videos/a 1.MP4 pick up", ("my videos/a 1.MP4", "pick up")),
        ('"a b.mp4" pick up', ("a b.mp4", "pick up")),
        ("a.mp4   wave", ("a.mp4", "wave")),
        ("# a comment\na.mp4 wave", ("a.mp4", "wave")),
        ("\ufeffa.mp4 wave", ("a.mp4", "wave")),
    ],
)
def test_lines_of_a_path_and_a_label(tmp_path: Path, line: str, expected: tuple[str, str]) -> None:
    assert pairs(tmp_path, line, "list.txt", None) == [expected]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a b,wave hand", "line 1: where does the label of .* begin"),
        ("a.mp4,wave", "line 1: .* needs a path and a label"),
        ("a b.mp4", "line 1: the label is missing"),
    ],
)
def test_lines_that_can_be_read_in_two_ways_are_refused(
    tmp_path: Path, line: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        pairs(tmp_path, line, "list.txt", None)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("list.csv", "path,label\na.mp4,wave\nb.mp4,fête\n".encode("latin-1"), "row 3: not UTF-8"),
        ("list.csv", "path,label\na.mp4,wave".encode("utf-16-le"), "is no text"),
        ("list.txt", bytes(range(256)), "is no text"),
        ("list.xlsx", b"PK\x03\x04", "lists are text"),
        ("list.json", b'[{"path": "a.mp4", "label": "wave"}]', "lists are text"),
        ("list.parquet", b"path,label\n", "no Parquet table"),
        ("list.tar", b"path,label\n", "uncompressed tar"),
        ("list.csv", b"", "needs the header path,label as its first line; it is empty"),
        ("list.csv", b"path,label\n", "names no clip"),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert main(["check", str(tmp_path / name), "--root", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    if name == "list.csv":
        with pytest.raises(DataError):
            read_labels(tmp_path / name)


def test_a_folder_in_place_of_a_list_is_told_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder: python -m model\.data folders"):
        read_clips([tmp_path], tmp_path)
