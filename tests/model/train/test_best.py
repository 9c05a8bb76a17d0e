"""The network of the best evaluation is what a run ends with, killed and resumed or not."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import load_checkpoint
from model.evaluate.scores import Scores
from model.train.best import Best, figures
from model.train.errors import TrainError
from model.train.initial_model import make_initial_model
from model.train.loop import train
from model.train.record import read_metrics
from model.train.settings import read_config
from model.train.standstill import accuracies
from tests.model.clip_sets import COLOURS, tiny_config, tiny_run, write_table
from tests.model.train.processes import command, finished, stopped_after

EPOCHS = 14
PATIENCE = 3


def overfitting(clips: Path, folder: Path) -> dict[str, Any]:
    """Settings of a run that grows too sure of itself: a quarter of data.val is mislabelled."""
    rows = [(f"{label} {i}.mp4", label) for label in COLOURS for i in (6, 7)]
    wrong = [(name, "dark clip" if i < 2 else label) for i, (name, label) in enumerate(rows)]
    return {
        "data__val": [str(write_table(folder / "val.csv", wrong))],
        "schedule__epochs": EPOCHS,
        "loss__smoothing": 0,
        "optim__lr": 5e-4,
        "log__every_updates": 1,
    }


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_checkpoint(folder).state_dict() for folder in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def plain(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that kept all of its snapshots.

    It is a process of its own, as those that are compared with it to the bit.
    """
    folder = tmp_path_factory.mktemp("best")
    changes = overfitting(clip_set, folder)
    run = finished(command(tiny_run(clip_set, folder / "plain", save__keep=100, **changes)))
    assert run.returncode == 0, run.stderr
    return folder / "plain"


def best_of(run: Path) -> tuple[int, int]:
    """The update and the epoch of the lowest loss on data.val."""
    measured = accuracies(read_metrics(run / "metrics.jsonl"))
    best = min(measured, key=lambda entry: float(entry["loss"]))
    return best["update"], int(best["epoch"])


def test_the_best_epoch_is_exported_to_the_bit_and_named(
    clip_set: Path, plain: Path, tmp_path: Path
) -> None:
    update, epoch = best_of(plain)
    assert 0 < epoch < EPOCHS - PATIENCE, "the run does not overfit"
    changes = overfitting(clip_set, tmp_path)
    run = finished(command(tiny_run(clip_set, tmp_path / "run", save__best="loss", **changes)))
    snapshot = plain / "snapshots" / f"update-{update:09d}"
    assert same_weights(tmp_path / "run" / "checkpoint", snapshot)
    assert len(list((tmp_path / "run" / "snapshots").iterdir())) == 3
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert (report["best"]["update"], report["best"]["epoch"]) == (update, epoch)
    assert report["loss"] == pytest.approx(report["best"]["value"])
    assert f"best: epoch {epoch} (update {update}), loss " in run.stderr


def test_with_patience_it_ends_there_killed_and_resumed_or_not(
    clip_set: Path, plain: Path, tmp_path: Path
) -> None:
    update, epoch = best_of(plain)
    changes = overfitting(clip_set, tmp_path) | {
        "save__best": "loss",
        "save__every_epochs": 2,
        "schedule__patience": PATIENCE,
    }
    arguments = command(tiny_run(clip_set, tmp_path / "run", **changes))
    status, _ = stopped_after(arguments, update + 4, signal.SIGKILL)
    assert status == -signal.SIGKILL
    again = finished(arguments)
    assert "going on after update" in again.stderr
    assert f"{PATIENCE} evaluations in a row were no better" in again.stderr
    measured = accuracies(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    expected = accuracies(read_metrics(plain / "metrics.jsonl"))[: epoch + PATIENCE + 1]
    assert [entry["update"] for entry in measured] == [entry["update"] for entry in expected]
    snapshot = plain / "snapshots" / f"update-{update:09d}"
    assert same_weights(tmp_path / "run" / "checkpoint", snapshot)
    # It is over: the same command says the same and trains nothing.
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    train(read_config(arguments[3:]))
    assert load_checkpoint(tmp_path / "run" / "checkpoint").state_dict().keys()
    assert accuracies(read_metrics(tmp_path / "run" / "metrics.jsonl")) == measured


def test_where_nothing_gets_better_the_start_is_kept(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_config(clip_set, tmp_path / "run", save__best="top1", optim__lr=1e-30)
    train(config)
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["best"]["epoch"] == 0
    start = make_initial_model(config.start, config.seed).net.state_dict()
    kept = load_checkpoint(tmp_path / "run" / "checkpoint").state_dict()
    assert all(torch.equal(start[name], kept[name]) for name in start)


def test_figures_and_what_counts_as_better() -> None:
    truth = np.array([0, 0, 0, 1])
    scores = np.array([[0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.8, 0.2]], np.float32)
    measured = figures(Scores(np.arange(4), scores, truth))
    assert (measured["top1"], measured["macro"], measured["top5"]) == (0.75, 0.5, 1.0)
    assert measured["loss"] == pytest.approx(-(3 * np.log(0.7) + np.log(0.2)) / 4)
    best = Best("top1", patience=2)
    assert [best.note(n, v) for n, v in enumerate((0.5, 0.6, 0.6, float("nan")))] == [
        True, True, False, False,
    ]  # fmt: skip
    assert (best.update, best.value, best.patience_is_over) == (1, 0.6, True)
    lower = Best("loss")
    assert [lower.note(n, v) for n, v in enumerate((2.0, 1.0, 1.5))] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"save__best": "top1", "data__val": []}, "save.best is measured on data.val"),
        ({"schedule__patience": 2}, "schedule.patience waits for save.best"),
    ],
)
def test_what_needs_another_key_says_so(
    clip_set: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainError, match=said):
        read_config(command(tiny_run(clip_set, tmp_path / "run", **changes))[3:])


def test_what_measures_the_best_may_not_change_midway(clip_set: Path, tmp_path: Path) -> None:
    changes = {"save__best": "top1", "schedule__epochs": 1}
    train(tiny_config(clip_set, tmp_path / "run", **changes))
    with pytest.raises(TrainError, match=r"holds a run with save\.best 'top1'"):
        train(tiny_config(clip_set, tmp_path / "run", **{**changes, "save__best": "loss"}))
    other = {**changes, "data__val": [str(clip_set / "train.csv")]}
    with pytest.raises(TrainError, match=r"holds a run with data\.val"):
        train(tiny_config(clip_set, tmp_path / "run", **other))
