"""Pictures of a run: legible with few labels, with many, with odd ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluate.scores import Scores
from model.train.report import write_report


def measured(labels: int, mistakes: int) -> Scores:
    """Four clips of each label; so many of them are taken for the label before."""
    truth = np.repeat(np.arange(labels), 4)
    taken = truth.copy()
    taken[: mistakes * 4 : 4] -= 1
    scores = np.eye(labels, dtype=np.float32)[taken]
    return Scores(np.arange(len(truth)), scores, truth.astype(np.int64))


@pytest.mark.parametrize(("labels", "mistakes"), [(2, 0), (12, 3), (101, 20), (400, 9)])
def test_every_picture_is_drawn(tmp_path: Path, labels: int, mistakes: int) -> None:
    lines = [{"update": u, "loss": 1 / (u + 1), "lr": 1e-5} for u in range(200)]
    lines.append({"update": 199, "val_top1": 0.5, "val_top5": 0.9})
    names = [f"win ${i} and {'on ' * 40}" for i in range(labels)]
    write_report(tmp_path, lines, names, measured(labels, mistakes))
    for name in ("curves", "confusion", "confused"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 100
            assert max(picture.size) < 3000
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(pair["clips"] for pair in report["most_confused"]) == min(mistakes, 10)


def test_a_run_without_validation_has_curves_alone(tmp_path: Path) -> None:
    write_report(tmp_path, [{"update": 0, "loss": 2.0, "lr": 0.0}], ["a", "b"], None)
    assert {path.name for path in tmp_path.glob("*.png")} == {"curves.png"}
