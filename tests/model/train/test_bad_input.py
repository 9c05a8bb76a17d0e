"""Mistakes that people make: one line each, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from model.train.__main__ import main
from tests.model.clip_sets import tiny_run, write_table


def refusal(config: dict[str, Any], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a run says that does not start, or stops."""
    file = Path(config["output"]).parent / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    assert main(["--config", str(file), *arguments]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("model.train")]
    assert len(said) == 1
    return said[0]


BARE: dict[str, Any] = {
    **tiny_run(Path(), Path())["start"]["architecture"],
    "mit_layers": 0,
    "prompt_layers": 0,
    "cross_frame_messages": False,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data__train": ["none.csv"]},
            "list none.csv does not exist: correct the path",
        ),
        ({"data__train": []}, "no list of clips is given: set data.train"),
        ({"data__root": "nowhere"}, "nowhere is neither a folder nor a .tar file: set data.root"),
        (
            {"data__labels": "none.csv"},
            "label file none.csv does not exist: correct the path (data.labels",
        ),
        ({"text": "frozen", "vision": "frozen", "start__architecture": BARE}, "nothing is left to"),
        ({"mixing__group": 3}, "mixing.group 3 does not divide the 8 clips"),
        ({"data__template": "a clip"}, "data.template: template 'a clip' must hold exactly one {}"),
        ({"optimizer__lr": 1}, "unknown key optimizer"),
        ({"start": {"source": "nothere.pth"}}, "start.source: nothere.pth is no checkpoint"),
        ({"start__frames": 0}, "start.frames: Input should be greater than 0, not 0"),
    ],
)
def test_one_line_that_says_what_to_do(
    clip_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    assert said in refusal(tiny_run(clip_set, tmp_path / "run", **changes), capsys)


def test_a_label_that_is_not_known(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("red clip 6.mp4", "red clip"), ("blue clip 6.mp4", "purple clip")]
    val = write_table(tmp_path / "val.csv", rows)
    said = refusal(tiny_run(clip_set, tmp_path / "run", data__val=[str(val)]), capsys)
    assert "val.csv, row 3: label 'purple clip' is not among the 4 known labels" in said


def test_a_label_without_clips(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("red clip", "green clip", "blue clip", "dark clip", "white clip")
    labels = write_table(tmp_path / "labels.csv", list(enumerate(names)), ("id", "name"))
    said = refusal(tiny_run(clip_set, tmp_path / "run", data__labels=str(labels)), capsys)
    assert "label 'white clip' has no clip in data.train: add clips, or take it out" in said


def test_clips_that_are_not_there(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "train.csv"
    table.write_text((clip_set / "train.csv").read_text() + "none.mp4,red clip\n")
    said = refusal(tiny_run(clip_set, tmp_path / "run", data__train=[str(table)]), capsys)
    assert "1 of 25 clips cannot be used" in said
    assert "none.mp4 (missing): run python -m model.data check, or raise the limit" in said


def test_frames_that_contradict_the_way_they_are_prepared(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {"num_frames": 8, "image_size": 48, "resize_short_side": 54}
    said = refusal(tiny_run(clip_set, tmp_path / "run", start__inputs=inputs), capsys)
    assert "the input spec gives 8 frames of 48 pixels, the network takes 4 of 48" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run(clip_set, tmp_path / "run", compute__device="cuda")
    assert "torch sees no GPU here: set the device (compute.device or --device) to cpu" in refusal(
        config, capsys
    )


def test_an_output_that_cannot_be_written(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(tiny_run(clip_set, tmp_path / "run"), capsys, "--output", f"{tmp_path}/file/run")
    assert "Not a directory" in said
