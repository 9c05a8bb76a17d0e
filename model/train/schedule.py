"""The learning rate of every update: a function of its number, with nothing to save."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.train.config import ScheduleConfig


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up and half a cosine.

    The published form is timm's: it counts micro-batches, sets the rate after an update for the
    next one, and lets the cosine run from the start of training, under the warm-up.
    """

    config: ScheduleConfig
    updates_per_epoch: int
    micro_batches: int = 1

    @property
    def updates(self) -> int:
        """Length of the run."""
        return max(round(self.config.epochs * self.updates_per_epoch), 1)

    def rate(self, update: int, peak: float, lowest: float) -> float:
        """Return the rate of an update (from 0) for a group with this peak and lowest rate."""
        warmup = self.config.warmup_epochs * self.updates_per_epoch
        if self.config.form == "smooth":
            if update + 1 < warmup:
                return peak * (update + 1) / warmup
            # The peak is the last rate of warm-up; the lowest is that of the last update.
            done = (update + 1 - warmup) / max(self.updates - warmup, 1)
            return _cosine(min(max(done, 0.0), 1.0), peak, lowest)
        step = max(update * self.micro_batches - 1, 0)
        if step < warmup * self.micro_batches:
            return peak * step / (warmup * self.micro_batches)
        return _cosine(step / (self.updates * self.micro_batches), peak, lowest)


def _cosine(done: float, peak: float, lowest: float) -> float:
    return lowest + 0.5 * (peak - lowest) * (1 + math.cos(math.pi * done))
