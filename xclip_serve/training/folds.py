"""How good a network of these settings is on clips that it was not trained on, k times over."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from model.data.lists.cliplist import read_clips
from model.data.lists.folders import LABELS, TRAIN, VAL, Split, write_split
from model.data.lists.holdout import Pairs, folded
from model.data.lists.labels import read_labels
from model.train.config import TrainConfig
from model.train.export_run import REPORT
from model.train.loop import train

FOLDER = "folds"
Say = Callable[[str], None]


def cross_validate(
    run: Path, config: TrainConfig, folds: int, seed: int, group_by: str, say: Say
) -> None:
    """Train once for each fold, on the others, and say the mean and the deviation.

    Each run goes its whole length and its last network counts: nothing is chosen on the clips that
    it is measured on. A run that was stopped goes on.
    """
    assert config.data.labels is not None
    labels = read_labels(config.data.labels)
    lists = (*config.data.train, *config.data.val)
    clips = read_clips(lists, config.data.root, labels)
    pairs: Pairs = [(sample.name, labels.names[sample.label]) for sample in clips.samples]
    top1, macro = [], []
    parts = folded(config.data.root or Path(), pairs, folds, seed, group_by)
    for number, (training, held) in enumerate(parts, start=1):
        # Named by its clips, so that other folds, or another grouping, go on with nobody's network.
        parted = hashlib.sha256(repr((training, held)).encode()).hexdigest()[:8]
        folder = run / FOLDER / f"{number}-of-{folds}-{parted}"
        write_split(Split(labels, training, held, []), folder / "lists")
        say(f"fold {number} of {folds}: {len(training)} clips to train on, {len(held)} held back")
        train(_of_fold(config, folder))
        report = json.loads((folder / REPORT / "report.json").read_text(encoding="utf-8"))
        top1.append(report["top1"])
        macro.append(report["macro"])
    say(f"{folds} folds: top-1 {_spread(top1)}, macro accuracy {_spread(macro)}")


def _of_fold(config: TrainConfig, folder: Path) -> TrainConfig:
    lists = folder / "lists"
    epochs = max(round(config.schedule.epochs), 1)
    changes = {
        "output": folder,
        "data": config.data.model_copy(
            update={"train": (lists / TRAIN,), "val": (lists / VAL,), "labels": lists / LABELS}
        ),
        "schedule": config.schedule.model_copy(update={"patience": None}),
        "save": config.save.model_copy(update={"best": None}),
        "evaluate": config.evaluate.model_copy(update={"every_epochs": epochs}),
    }
    return config.model_copy(update=changes)


def _spread(shares: list[float]) -> str:
    return f"{statistics.mean(shares):.1%} ± {statistics.stdev(shares):.1%}"
