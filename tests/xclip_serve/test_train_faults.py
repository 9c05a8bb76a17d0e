"""What goes wrong in people's hands, through the one command: each is told, and none hangs."""

from __future__ import annotations

import multiprocessing
import tarfile
import unicodedata
from pathlib import Path

import pytest

from model.data.frames.loading import _say_once
from model.train.settings import read_config
from tests.model.clip_sets import COLOURS, write_clip, write_table
from xclip_serve.__main__ import main

LABELS = ("red clip", "green clip")
EACH = 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of each of two labels, their names with an accent that is a letter of its own."""
    root = tmp_path_factory.mktemp("faults") / "clips"
    for label in LABELS:
        for i in range(EACH):
            name = unicodedata.normalize("NFD", f"café {'abc'[i]}.mp4")
            write_clip(root / label / name, COLOURS[label], seed=i)
    return root


def test_a_list_leads_into_a_tar_by_either_unicode_form(
    clips: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "clips.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(clips, arcname=".")
    rows = [(f"{label}/café {letter}.mp4", label) for label in LABELS for letter in "abc"]
    table = write_table(tmp_path / "list.csv", rows)
    arguments = ["train", str(table), "--root", str(packed), "--from", str(start), "--dry-run"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "2 labels: 4 clips to train on, 2 to measure accuracy on" in said
    assert "missing" not in said
    assert read_config(["--config", str(tmp_path / "run" / "train.yaml")]).data.root == packed
    assert main(["train", str(packed), "--output", str(tmp_path / "other")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "unpack it and give the folder, or a list beside --root FILE.tar" in last


def test_where_dev_shm_takes_nothing_it_is_said_once_and_the_run_goes_on(
    clips: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refused(_count: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Semaphore", refused)
    _say_once.cache_clear()
    arguments = ["train", str(clips), "--from", str(start), "--dry-run", "--group-by", "none"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert said.count("/dev/shm takes nothing (No space left on device; docker run has") == 1
    assert "two updates took" in said


def test_a_run_that_changes_nothing_says_so_however_short_it_is(
    clips: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(clips), "--from", str(start), "--group-by", "none"]
    assert main([*arguments, "--output", str(run), "--dry-run"]) == 0
    settings = ["--config", str(run / "train.yaml"), "--optim.lr", "1e-30"]
    assert main(["train", *settings, "--schedule.epochs", "2"]) == 0
    said = capsys.readouterr().err
    assert "warning: training did not move: the loss on data.val was " in said
    assert "look at optim.lr (1e-30)" in said
    assert "training did not move" in (run / "report" / "report.html").read_text()
