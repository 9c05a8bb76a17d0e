"""Paths that lead nowhere as they stand: found as they are meant, or a hint at what is there."""

from __future__ import annotations

import os
import tarfile
import unicodedata
from pathlib import Path

import pytest

from model.data.lists.cliplist import open_files
from model.data.lists.files import ClipFiles
from model.data.lists.missing import MissingClip

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def content(files: ClipFiles, name: str) -> str:
    with files.open(name) as stream:
        return str(stream.read(), "utf-8")


def hint(files: ClipFiles, name: str) -> str:
    with pytest.raises(MissingClip) as missing:
        files.open(name)
    assert not files.holds(name)
    assert files.version(name) == ""
    return missing.value.hint


@pytest.mark.parametrize("there", [NFC, NFD])
@pytest.mark.parametrize("packed", [False, True])
def test_both_unicode_forms_of_a_name_lead_to_the_file(
    tmp_path: Path, there: str, packed: bool
) -> None:
    name = f"caf{there}/cr{there}me.mp4"
    make(tmp_path / "clips", name)
    root = tmp_path / "clips"
    if packed:
        root = tmp_path / "clips.tar"
        with tarfile.open(root, "w") as tar:
            tar.add(tmp_path / "clips", arcname=".")
    files = open_files(root)
    for form in ("NFC", "NFD"):
        asked = unicodedata.normalize(form, name)
        assert content(files, asked) == name
        assert files.holds(asked)
        assert files.version(asked) == files.version(name) != ""


def test_where_both_forms_are_there_each_is_itself(tmp_path: Path) -> None:
    make(tmp_path, f"{NFC}.mp4", f"{NFD}.mp4")
    files = open_files(tmp_path)
    assert [content(files, f"{form}.mp4") for form in (NFC, NFD)] == [f"{NFC}.mp4", f"{NFD}.mp4"]


def test_back_slashes_quotes_blanks_and_tildes_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    make(tmp_path, "wave/a b.mp4", "home/c.mp4")
    files = open_files(tmp_path)
    for name in (
        r"wave\a b.mp4",
        '"wave/a b.mp4"',
        " wave/a b.mp4 ",
        str(tmp_path / "wave/a b.mp4"),
    ):
        assert content(files, name) == "wave/a b.mp4"
        assert files.holds(name)
    assert content(files, "~/c.mp4") == "home/c.mp4"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("12345", "12345.webm"),
        ("12345.mp4", "12345.webm"),
        ("wave/A.MP4", "wave/a.mp4"),
        (r"C:\clips\wave\a.mp4", "wave/a.mp4"),
        ("/data/clips/wave/a.mp4", "wave/a.mp4"),
        ("~/wave/a.mp4", "wave/a.mp4"),
        ("clips/wave/a.mp4", "wave/a.mp4"),
    ],
)
def test_what_may_be_meant_is_said(tmp_path: Path, name: str, meant: str) -> None:
    make(tmp_path, "12345.webm", "wave/a.mp4", "two.mp4", "two.webm")
    assert hint(open_files(tmp_path), name) == f"did you mean {meant}?"


@pytest.mark.parametrize("name", ["two", "nothing.mp4", "no/where.mp4", "x" * 300, "", "/", "~"])
def test_nothing_is_guessed_where_it_is_not_clear(tmp_path: Path, name: str) -> None:
    make(tmp_path, "two.mp4", "two.webm")
    files = open_files(tmp_path)
    with pytest.raises(OSError, match=r"missing|not a regular file|too long"):
        files.open(name)
    assert not files.holds(name)


def test_a_folder_or_a_pipe_is_no_clip_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    files = open_files(tmp_path)
    for name in ("pipe.mp4", "folder.mp4"):
        with pytest.raises(OSError, match="not a regular file"):
            files.open(name)
