"""How long a training takes, by two updates of it that are made and thrown away."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from model.data.frames.loading import training_batches
from model.evaluate.scorer import label_vectors
from model.processes import joined
from model.train.config import TrainConfig
from model.train.features import FOLDER as FEATURES
from model.train.run import prepare

TIMED = 2  # updates, after one that warms up


@dataclass(frozen=True)
class Pace:
    """Seconds of an update and of measuring a clip; how many of both an epoch takes."""

    update_s: float
    measured_clip_s: float
    updates_per_epoch: int
    clips: int

    def seconds(self, epochs: int, every: int) -> float:
        """Return the seconds of a run that is measured every so many epochs."""
        evaluations = 1 + math.ceil(epochs / every)
        measured = evaluations * self.clips * self.measured_clip_s
        return epochs * self.updates_per_epoch * self.update_s + measured


def measure(config: TrainConfig, measured_clips: int) -> Pace:
    """Make three updates of the run that `config` describes, the last two of them timed.

    Nothing of it stays but decoded frames and features: the run needs them as well.
    """
    with tempfile.TemporaryDirectory(prefix="xclip-train-") as folder:
        changes = {
            "output": Path(folder) / "run",
            "data": config.data.model_copy(update={"val": ()}),
            "save": config.save.model_copy(update={"best": None}),
            "schedule": config.schedule.model_copy(update={"patience": None}),
        }
        with joined(config.compute.device) as processes:
            run = prepare(config.model_copy(update=changes), processes)
            batches = training_batches(run.training, run.plan, 0, 0, TIMED + 2, run.config.data)
            run.updater.update(0, batches)
            began = time.perf_counter()
            for number in range(1, TIMED + 1):
                run.updater.update(number, batches)
            update_s = (time.perf_counter() - began) / TIMED
            run.initial.net.eval()
            scorer, frames = run.scorer(), next(batches).frames[: config.evaluate.batch].numpy()
            texts = label_vectors(scorer, run.training.clips.labels.texts)
            began = time.perf_counter()
            scorer.logits(frames, texts)
            clip_s = (time.perf_counter() - began) / len(frames)
        if (features := Path(folder) / "run" / FEATURES).is_dir():
            shutil.copytree(features, config.output / FEATURES, dirs_exist_ok=True)
    return Pace(update_s, clip_s, run.plan.updates_per_epoch, measured_clips)


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
