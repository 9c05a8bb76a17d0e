"""The check before days are spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import model.data.check.check as check_module
from model.data.__main__ import main
from model.data.check.check import Findings, check
from model.data.config import DataConfig
from model.data.lists.cliplist import read_clips
from model.data.lists.labels import LabelList
from model.inputs import InputSpec, Tokenizer
from tests.model.clip_sets import write_clip, write_table

SPEC = InputSpec.official(8)


def looked_at(
    folder: Path,
    rows: Sequence[tuple[str, str]],
    labels: Sequence[str] | None = None,
    val: Sequence[tuple[str, str]] = (),
) -> Findings:
    known = LabelList(tuple(labels)) if labels else None
    clips = read_clips([write_table(folder / "list.csv", list(rows))], folder, known)
    other = None
    if val:
        other = read_clips([write_table(folder / "val.csv", list(val))], folder, clips.labels)
    inline = DataConfig(workers=0)
    return check(clips, other, SPEC, Tokenizer.clip(), inline, lambda: None)


def test_missing_broken_and_short_clips_are_told_apart(tmp_path: Path) -> None:
    write_clip(tmp_path / "ok.mp4", (200, 0, 0), frames=9)
    write_clip(tmp_path / "short.mp4", (200, 0, 0), frames=5)
    (tmp_path / "text.mp4").write_text("no video")
    rows = [(f"{name}.mp4", "a") for name in ("ok", "short", "text", "none")]
    found = looked_at(tmp_path, rows)
    assert found.missing == ("none.mp4",)
    assert list(found.broken) == ["text.mp4"]
    assert found.broken["text.mp4"].startswith("not_a_video")
    assert found.too_short == {"short.mp4": 5}
    assert found.serious


def test_balance_and_labels_without_clips(tmp_path: Path) -> None:
    for i in range(4):
        write_clip(tmp_path / f"{i}.mp4", (200, 0, 0), seed=i)
    rows = [("0.mp4", "a"), ("1.mp4", "a"), ("2.mp4", "a"), ("3.mp4", "b")]
    found = looked_at(tmp_path, rows, ["a", "b", "c"])
    assert found.per_label == {"a": 3, "b": 1, "c": 0}
    assert found.balance() == "0 (c) to 3 (a) clips each, median 1"
    assert found.empty_labels == ("c",)
    assert not found.serious


def test_repeated_contradicting_and_shared_clips(tmp_path: Path) -> None:
    for i in range(3):
        write_clip(tmp_path / f"{i}.mp4", (200, 0, 0), seed=i)
    rows = [("0.mp4", "a"), ("0.mp4", "a"), ("1.mp4", "a"), ("1.mp4", "b"), ("2.mp4", "b")]
    found = looked_at(tmp_path, rows, val=[("2.mp4", "b")])
    assert found.repeated == ("0.mp4", "1.mp4")
    assert found.contradicting == ("1.mp4",)
    assert found.also_in_val == ("2.mp4",)


def test_clips_that_accuracy_is_measured_on_are_opened_too(tmp_path: Path) -> None:
    write_clip(tmp_path / "0.mp4", (200, 0, 0))
    (tmp_path / "text.mp4").write_text("no video")
    found = looked_at(tmp_path, [("0.mp4", "a")], val=[("text.mp4", "a"), ("none.mp4", "a")])
    assert (list(found.broken), found.missing) == (["text.mp4"], ("none.mp4",))
    assert found.per_label == {"a": 1}


def test_a_missing_clip_comes_with_what_may_be_meant(tmp_path: Path) -> None:
    write_clip(tmp_path / "12345.mp4", (200, 0, 0))
    (tmp_path / "12345.mp4").rename(tmp_path / "12345.webm")
    found = looked_at(tmp_path, [("12345", "a"), ("none.mp4", "a")])
    assert found.missing == ("12345", "none.mp4")
    assert found.hints == {"12345": "did you mean 12345.webm?"}


def test_copies_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    """Of one label, of two, and on both sides: the last two make every figure wrong."""
    for i, names in enumerate((("a.mp4", "b.mp4"), ("c.mp4", "d.mp4"), ("e.mp4", "f.mp4"))):
        for name in names:
            write_clip(tmp_path / name, (200, 0, 0), seed=i)
    rows = [("a.mp4", "wave"), ("b.mp4", "wave"), ("c.mp4", "wave"), ("d.mp4", "sit")]
    found = looked_at(tmp_path, rows[:2])
    assert (found.copies, found.serious) == ((("a.mp4", "b.mp4"),), False)
    found = looked_at(tmp_path, [*rows, ("e.mp4", "sit")], val=[("f.mp4", "sit")])
    assert found.copies == (("a.mp4", "b.mp4"),)
    assert found.copies_with_other_labels == (("c.mp4", "d.mp4"),)
    assert found.copies_in_val == (("e.mp4", "f.mp4"),)
    assert found.serious


def test_files_that_only_begin_and_end_alike_are_no_copies(tmp_path: Path) -> None:
    """Found by a fingerprint, but not the same bytes in the middle."""
    write_clip(tmp_path / "a.mp4", (200, 0, 0))
    padded = (tmp_path / "a.mp4").read_bytes()
    box = (300_008).to_bytes(4, "big") + b"free"
    for name, middle in (("b.mp4", b"\0"), ("c.mp4", b"\1")):
        content = padded + box + bytes(100_000) + middle * 100_000 + bytes(100_000)
        (tmp_path / name).write_bytes(content)
    found = looked_at(tmp_path, [("b.mp4", "wave"), ("c.mp4", "sit")])
    assert not found.copies
    assert not found.copies_with_other_labels


def test_clips_are_opened_as_training_and_as_evaluation_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training takes whole pictures, where a change of size within a clip matters."""
    write_clip(tmp_path / "0.mp4", (200, 0, 0))
    write_clip(tmp_path / "1.mp4", (200, 0, 0), seed=1)
    opened = []
    for name in ("decode_uncropped", "decode_clip"):
        plain = getattr(check_module, name)

        def noted(
            stream: Any, spec: Any, *, name: str = name, plain: Any = plain, **more: Any
        ) -> Any:
            opened.append(name)
            return plain(stream, spec, **more)

        monkeypatch.setattr(check_module, name, noted)
    found = looked_at(tmp_path, [("0.mp4", "a")], val=[("1.mp4", "a")])
    assert opened == ["decode_uncropped", "decode_clip"]
    assert not found.serious


def test_labels_that_do_not_read_like_text_come_with_words(tmp_path: Path) -> None:
    write_clip(tmp_path / "0.mp4", (200, 0, 0))
    fine = ["brush hair", "wave", "check-in", "TV", "do 3 jumps", "挥手", "Kick", "don't", "YMCA"]
    odd = {
        "brush_hair": "brush hair",
        "ApplyEyeMakeup": "apply eye makeup",
        "007_waving": "waving",
        "sit+down": "sit down",
        "C3": "",
        "17": "",
        "class_4": "",
        "a_01": "",
    }
    found = looked_at(tmp_path, [("0.mp4", "wave")], [*fine, *odd])
    assert found.not_words == odd
    assert not found.serious


def test_labels_that_are_the_same_to_the_network(tmp_path: Path) -> None:
    write_clip(tmp_path / "0.mp4", (200, 0, 0))
    long = " ".join(["word"] * 90)
    labels = ["check-in", "check - in", "checkin", long]
    found = looked_at(tmp_path, [("0.mp4", "checkin")], labels)
    assert found.alike == (("check-in", "check - in"),)
    assert found.too_long == (long,)
    assert found.serious


def test_the_command_prints_a_table_writes_json_and_exits_with_1_when_serious(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "ok.mp4", (200, 0, 0))
    good = write_table(tmp_path / "good.csv", [("ok.mp4", "a")])
    bad = write_table(tmp_path / "bad.csv", [("ok.mp4", "a"), ("none.mp4", "a")])
    options = ["--root", str(tmp_path), "--workers", "0"]
    assert main(["check", str(good), *options]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert main(["check", str(bad), *options, "--json", str(tmp_path / "found.json")]) == 1
    out = capsys.readouterr().out
    assert "none.mp4" in out
    assert json.loads((tmp_path / "found.json").read_text())["missing"] == ["none.mp4"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "none.csv"], "none.csv does not exist"),
        (["folders", "nowhere", "--output", "x"], "nowhere is no folder"),
        (["shards", "none.txt", "--output", "x"], "none.txt does not exist"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    said_at_all = capsys.readouterr().err
    assert said in said_at_all
    assert said_at_all.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "x.csv", "--frames", "0"], "--frames: must be a whole number from 1, not 0"),
        (["check", "x.csv", "--workers", "-1"], "--workers: must be a whole number from 0, not -1"),
        (["check", "x.csv", "--json", "none/x.json"], "--json: cannot write none/x.json"),
        (["folders", "x", "--output", "y", "--val-share", "2"], "must be a number from 0 to 1"),
    ],
)
def test_options_out_of_range_are_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said_at_all = capsys.readouterr().err
    assert said_at_all.startswith("model.data: ")
    assert said in said_at_all
    assert said_at_all.count("\n") == 1


def test_a_set_with_a_missing_clip_is_not_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "ok.mp4", (200, 0, 0))
    table = write_table(tmp_path / "set.csv", [("ok.mp4", "a"), ("none.mp4", "a")])
    packed = tmp_path / "shards"
    assert main(["shards", str(table), "--root", str(tmp_path), "--output", str(packed)]) == 1
    assert "none.mp4 cannot be packed, the file is missing" in capsys.readouterr().err
    assert not list(packed.glob("*.tar"))
