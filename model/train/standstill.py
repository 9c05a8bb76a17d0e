"""Whether a run changed anything, by its own figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.train.config import TrainConfig

PART = 10  # the first and the last tenth of the updates are compared
LEAST_FALL = 0.02  # of the loss
NOISE = 1e-5  # of the loss on clips that are always the same


def accuracies(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the measured accuracies out of the lines of `metrics.jsonl`, the start as epoch 0."""
    epochs = {line["update"]: line["epoch"] for line in lines if "epoch" in line}
    return [
        {
            "update": line["update"] + 1,
            "epoch": epochs.get(line["update"], 0.0),
            **{
                name.removeprefix("val_"): value
                for name, value in line.items()
                if name.startswith("val_")
            },
        }
        for line in lines
        if "val_top1" in line
    ]


def standstill(lines: Sequence[dict[str, Any]], config: TrainConfig) -> str | None:
    """Say in a line that training changed next to nothing; None where it did, or is too short.

    It did where the loss fell by 2 %, or more clips are right than at the start. A short run, whose
    losses are those of single batches, did not where the loss on `data.val` stayed what it was.
    """
    losses = np.array([line["loss"] for line in lines if "loss" in line])
    measured = accuracies(lines)
    if len(losses) < PART:
        if not _unchanged([entry["loss"] for entry in measured if "loss" in entry]):
            return None
        shown = f"the loss on data.val was {measured[0]['loss']:.4f} before and after"
    else:
        part = len(losses) // PART
        first, last = float(losses[:part].mean()), float(losses[-part:].mean())
        better = len(measured) > 1 and measured[-1]["top1"] > measured[0]["top1"]
        if last < (1 - LEAST_FALL) * first or better:
            return None
        shown = f"the loss was {first:.4f} in the first updates and is {last:.4f} in the last"
    if len(measured) > 1:
        shown += f", top-1 was {measured[0]['top1']:.1%} and is {measured[-1]['top1']:.1%}"
    frozen = [part for part in ("text", "vision") if getattr(config, part) == "frozen"]
    return (
        f"training did not move: {shown}; look at optim.lr ({config.optim.lr:g}), at what is "
        f"frozen ({', '.join(frozen) or 'nothing'}), at data.template ({config.data.template}) and "
        "whether the labels fit the clips"
    )


def _unchanged(losses: Sequence[float]) -> bool:
    return len(losses) > 1 and abs(losses[-1] - losses[0]) <= NOISE * abs(losses[0])
