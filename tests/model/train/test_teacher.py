"""A small network learns from the answers of a bundle, with labels or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from export.build import BundleOptions, make_bundle
from model.checkpoint import read_network
from model.data.errors import DataError
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
    names = [f"{label} {i}.mp4" for label in COLOURS for i in range(6)]
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(sorted(COLOURS))))
    # One clip is labelled, and what is said of it (that all of them are dark) has no say elsewhere.
    some = [(names[0], "dark clip"), *((name, "") for name in names[1:12])]
    lists = [write_table(tmp_path / "some.csv", some), tmp_path / "others.txt"]
    lists[1].write_text("\n".join(names[12:]) + "\n")
    changes: dict[str, Any] = {
        "data__train": [str(file) for file in lists],
        "data__labels": str(labels),
        "loss__teacher": str(teacher),
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


def test_clips_without_labels_need_a_teacher_and_labels_to_choose_from(
    clip_set: Path, tmp_path: Path, teacher: Path
) -> None:
    table = write_table(tmp_path / "train.csv", [["red clip 0.mp4"]] * 8, ("path",))
    changes: dict[str, Any] = {"data__train": [str(table)]}
    with pytest.raises(
        DataError, match=r"train\.csv, row 2: the label is missing: .*loss\.teacher"
    ):
        train(tiny_config(clip_set, tmp_path / "run", **changes))
    changes["loss__teacher"] = str(teacher)
    with pytest.raises(DataError, match=r"the labels to choose from: set data\.labels"):
        train(tiny_config(clip_set, tmp_path / "run", **changes))
    labels = tmp_path / "labels.csv"
    labels.write_text("name\n" + "\n".join(COLOURS) + "\n")
    changes |= {"data__labels": str(labels), "data__balance": "sampler"}
    with pytest.raises(TrainError, match=r"data\.balance sampler .* 8 have none: set it to none"):
        train(tiny_config(clip_set, tmp_path / "run", **changes))


def test_a_teacher_that_is_none_is_refused(clip_set: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"loss\.teacher: .* is no bundle"):
        train(tiny_config(clip_set, tmp_path / "run", loss__teacher=str(tmp_path)))
    captions = tiny_run(
        clip_set, tmp_path / "run", loss__teacher=str(tmp_path), loss__over="captions"
    )
    with pytest.raises(TrainError, match=r"scores labels: set loss\.over to labels"):
        read_config(command(captions)[3:])
