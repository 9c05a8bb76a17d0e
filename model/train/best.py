"""The best evaluation of a run so far, by a figure that `save.best` names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.evaluate.scores import Scores
from model.train.config import Figure


def figures(scores: Scores) -> dict[str, float]:
    """Measure an evaluation by every figure that there is; NaN where no clip was scored."""
    if not len(scores.truth):
        return dict.fromkeys(("top1", "top5", "macro", "loss"), float("nan"))
    own = scores.scores[np.arange(len(scores.truth)), scores.truth].astype(np.float64)
    right = scores.predicted == scores.truth
    per_class = [right[scores.truth == label].mean() for label in np.unique(scores.truth)]
    return {
        "top1": scores.top(1),
        "top5": scores.top(5),
        "macro": float(np.mean(per_class)),
        "loss": float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
    }


@dataclass
class Best:
    """Which update the best figure belongs to, and how long it has been so.

    `measured` is the number of updates done at the last evaluation, `since` counts evaluations
    after the best. It goes with each snapshot, so a run that went on knows what it knew.
    """

    figure: Figure | None
    patience: int | None = None
    measured: int | None = None
    update: int | None = None
    value: float | None = None
    since: int = 0

    def note(self, done: int, value: float) -> bool:
        """Note the figure measured after `done` updates; tell whether it is the best so far."""
        self.measured = done
        better = self.value is None or (
            value < self.value if self.figure == "loss" else value > self.value
        )
        if self.figure is None or np.isnan(value) or not better:
            self.since += 1
            return False
        self.update, self.value, self.since = done, value, 0
        return True

    @property
    def patience_is_over(self) -> bool:
        """Whether so many evaluations in a row were no better that the run ends."""
        return self.patience is not None and self.since >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what a snapshot keeps."""
        return {k: v for k, v in asdict(self).items() if k not in ("figure", "patience")}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned; a snapshot of an older version has none."""
        for key, value in state.items():
            setattr(self, key, value)
