"""A small network learns from the answers of a bundle, with labels or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from export.build import BundleOptions, make_bundle
from model.checkpoint import read_network
from model.progress import Steps
from model.train.errors import TrainError
from model.train.loop import train
from model.train.settings import read_config
from tests.model.clip_sets import COLOURS, tiny_config, tiny_run, write_table
from tests.model.train.processes import command


@pytest.fixture(scope="module")
def teacher(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows the colours."""
    folder = tmp_path_factory.mktemp("teacher")
    train(tiny_config(clip_set, folder / "run", schedule__epochs=8))
    bundle = folder / "bundle"
    network = read_network(folder / "run" / "checkpoint")
    make_bundle(network, bundle, BundleOptions(), Steps(Console(quiet=True)))
    return bundle


def test_what_nobody_labelled_is_learnt_from_the_teacher_asked_once(
    clip_set: Path, tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(COLOURS))
    names = [f"{label} {i}.mp4" for label in COLOURS for i in range(6)]
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(sorted(COLOURS))))
    rows = [(name, first) for name in names[:-3]]
    rows += [(names[-1 - i], label) for i, label in enumerate(sorted(COLOURS)[:3])]
    changes: dict[str, Any] = {
        "data__train": [str(write_table(tmp_path / "train.csv", rows))],
        "data__labels": str(labels),
        "loss__teacher": str(teacher),
        "loss__teacher_share": 1,
        "schedule__epochs": 8,
        "seed": 5,
        "data__cache__folder": str(tmp_path / "kept"),
    }
    train(tiny_config(clip_set, tmp_path / "run", **changes))
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["top1"] >= 0.75
    assert "asking the teacher: 24 of 24" in capsys.readouterr().err
    again = tiny_config(clip_set, tmp_path / "again", **{**changes, "schedule__epochs": 1})
    train(again)
    assert "asking the teacher" not in capsys.readouterr().err


def test_a_teacher_that_is_none_is_refused(clip_set: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"loss\.teacher: .* is no bundle"):
        train(tiny_config(clip_set, tmp_path / "run", loss__teacher=str(tmp_path)))
    captions = tiny_run(
        clip_set, tmp_path / "run", loss__teacher=str(tmp_path), loss__over="captions"
    )
    with pytest.raises(TrainError, match=r"scores labels: set loss\.over to labels"):
        read_config(command(captions)[3:])
