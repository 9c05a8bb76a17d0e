"""What of a run a person should know, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.data.lists.names import named
from model.evaluate.scores import Scores
from model.train.config import TrainConfig
from model.train.per_class import class_figures
from model.train.standstill import standstill


def remarks(
    lines: Sequence[dict[str, Any]],
    config: TrainConfig,
    labels: Sequence[str],
    scores: Scores | None,
    best: dict[str, Any] | None,
) -> list[str]:
    """Say what went wrong, a line each: rates of 0, no progress, classes that never come up."""
    said = []
    rates = [line["lr"] for line in lines if "lr" in line]
    if rates and not any(rates):
        said.append(
            "the learning rate was 0 in every update: optim.lr is 0, or the run ended within the "
            "first update of a published schedule (schedule.form: smooth)"
        )
    elif (still := standstill(lines, config)) is not None:
        said.append(still)
    if best is not None and best["update"] == 0:
        said.append(
            f"no evaluation was better than the one before training ({best['figure']} "
            f"{best['value']:.4f}): the start itself is kept; a lower optim.lr or more "
            "clips may help"
        )
    if scores is not None and len(scores.truth):
        never = [c.label for c in class_figures(scores, labels) if c.clips and not c.taken]
        if never:
            said.append(f"never predicted ({len(never)}): {named(never)}")
    return said
