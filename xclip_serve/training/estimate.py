"""How long a training takes, by two updates and a snapshot that are made and thrown away."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.data.frames.loading import Batch, training_batches
from model.evaluate.scorer import label_vectors
from model.processes import joined
from model.train.config import TrainConfig
from model.train.errors import OutOfMemory
from model.train.features import FOLDER as FEATURES
from model.train.loop import too_large
from model.train.resume import save
from model.train.run import Run, prepare

TIMED = 2  # updates, after one that warms up


@dataclass(frozen=True)
class Pace:
    """Seconds of an update, of measuring a clip and of a snapshot; how many of the first two an
    epoch takes.
    """

    update_s: float
    measured_clip_s: float
    saved_s: float
    updates_per_epoch: int
    clips: int

    def seconds(self, epochs: int, every: int) -> float:
        """Return the seconds of a run that is measured and saved every so many epochs."""
        times = math.ceil(epochs / every)
        measured = (1 + times) * self.clips * self.measured_clip_s
        return epochs * self.updates_per_epoch * self.update_s + measured + times * self.saved_s


def measure(config: TrainConfig, measured_clips: int) -> Pace:
    """Make three updates of the run that `config` describes, the last two of them timed.

    Nothing of it stays but decoded frames and features: the run needs them as well.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".timed-", dir=config.output) as folder:
        with joined(config.compute.device) as processes:
            output = {"output": Path(folder) / "run"}
            run = prepare(config.model_copy(update=output), processes)
            update_s, batches = _updates(run)
            run.initial.net.eval()
            scorer, frames = run.scorer(), next(batches).frames[: config.evaluate.batch].numpy()
            texts = label_vectors(scorer, run.training.clips.labels.texts)
            began = time.perf_counter()
            scorer.logits(frames, texts)
            clip_s = (time.perf_counter() - began) / len(frames)
            began = time.perf_counter()
            save(run.snapshots, 0, run.initial, run.updater, run.broken, run.name, run.best)
            saved_s = time.perf_counter() - began
        if (features := Path(folder) / "run" / FEATURES).is_dir():
            shutil.copytree(features, config.output / FEATURES, dirs_exist_ok=True)
    return Pace(update_s, clip_s, saved_s, run.plan.updates_per_epoch, measured_clips)


def _updates(run: Run) -> tuple[float, Iterator[Batch]]:
    """Return the seconds of an update, and the batches after those that were timed.

    Where memory does not suffice, with fewer clips at a time, as the run will make them.
    """
    while True:
        at_once = run.plan.micro_batch
        batches = training_batches(run.training, run.plan, 0, 0, TIMED + 2, run.config.data)
        try:
            run.updater.update(0, batches)
            began = time.perf_counter()
            for number in range(1, TIMED + 1):
                run.updater.update(number, batches)
            return (time.perf_counter() - began) / TIMED, batches
        except OutOfMemory as error:
            if not run.updater.halve():
                raise too_large(at_once, error) from None


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
