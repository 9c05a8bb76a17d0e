"""A run that changed nothing is known by its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.train.standstill import standstill
from tests.model.clip_sets import tiny_config

STILL = [2.3] * 20
FALLING = [2.3 - 0.05 * i for i in range(20)]


def lines(losses: list[float], *top1: float) -> list[dict[str, Any]]:
    """Metrics of a run whose accuracy was measured at the start and the end."""
    found = [{"update": i, "loss": loss, "epoch": i + 1.0} for i, loss in enumerate(losses)]
    places = (-1, len(losses) - 1)
    measured = zip(places, top1, strict=True) if top1 else ()
    return found + [
        {"update": u, "val_top1": a, "val_top5": 1.0, "val_loss": 2.5 - a} for u, a in measured
    ]


@pytest.mark.parametrize(
    ("found", "moved"),
    [
        (lines(STILL), False),
        (lines(STILL, 0.5, 0.5), False),
        (lines(STILL, 0.5, 0.4), False),
        (lines(STILL, 0.5, 0.6), True),  # the loss has a floor that augmentation sets
        (lines(FALLING), True),
        (lines(FALLING, 0.5, 0.5), True),
        (lines(FALLING[::-1], 0.5, 0.5), False),
        (lines(STILL[:5]), True),  # too short to tell
        (lines(STILL[:5], 0.5, 0.4), True),
        (lines(STILL[:5], 0.5, 0.5), False),  # nor did the loss on data.val change
    ],
)
def test_neither_the_loss_fell_nor_accuracy_rose(
    found: list[dict[str, Any]], moved: bool, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, tmp_path, vision="frozen", optim__lr=1e-9)
    said = standstill(found, config)
    if moved:
        assert said is None
    else:
        assert said is not None
        assert "optim.lr (1e-09)" in said
        assert "frozen (vision)" in said
