"""The learning rate, held to the published numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn, optim

from model.train.config import ScheduleConfig
from model.train.schedule import Schedule

PUBLISHED = ScheduleConfig(epochs=30, warmup_epochs=5)
LR, LOWEST = 8e-6, 8e-8


def test_the_rate_drops_where_warm_up_ends() -> None:
    """7.998e-6 → 7.469e-6 at 5 of 30 epochs: the cosine has run since the start."""
    schedule = Schedule(PUBLISHED, updates_per_epoch=1000)
    rates = [schedule.rate(update, LR, LOWEST) for update in range(30_000)]
    top = max(range(len(rates)), key=rates.__getitem__)
    assert top == 5000
    assert rates[top] == pytest.approx(7.998e-6, rel=1e-4)
    assert rates[top + 1] == pytest.approx(7.469e-6, rel=1e-4)
    assert rates[-1] == pytest.approx(LOWEST, rel=1e-2)


def test_the_first_two_updates_have_rate_zero() -> None:
    schedule = Schedule(PUBLISHED, updates_per_epoch=10)
    assert [schedule.rate(u, LR, LOWEST) for u in range(3)] == [0.0, 0.0, LR / 50]


def test_with_accumulation_micro_batches_are_counted_and_one_update_has_rate_zero() -> None:
    schedule = Schedule(PUBLISHED, updates_per_epoch=10, micro_batches=4)
    rates = [schedule.rate(u, LR, LOWEST) for u in range(3)]
    assert rates == [0.0, LR * 3 / 200, LR * 7 / 200]


@pytest.mark.parametrize("accumulated", [1, 4])
def test_it_is_timms_scheduler_as_the_released_loop_calls_it(accumulated: int) -> None:
    epochs, per_epoch = 6, 3
    micro_batches = per_epoch * accumulated
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=epochs * micro_batches,
        lr_min=LOWEST,
        warmup_lr_init=0,
        warmup_t=2 * micro_batches,
        cycle_limit=1,
        t_in_epochs=False,
    )
    config = ScheduleConfig(epochs=epochs, warmup_epochs=2)
    ours = Schedule(config, per_epoch, accumulated)
    update = 0
    for step in range(epochs * micro_batches):
        if (step + 1) % accumulated == 0:
            now = optimizer.param_groups[0]["lr"]
            assert ours.rate(update, LR, LOWEST) == pytest.approx(now), update
            theirs.step_update(step)
            update += 1
    assert update == ours.updates


def test_the_lowest_rate_is_the_same_for_all_groups() -> None:
    schedule = Schedule(PUBLISHED, updates_per_epoch=1000)
    last = 29_999
    assert schedule.rate(last, 10 * LR, LOWEST) == pytest.approx(LOWEST, rel=2e-2)


def test_smooth_has_no_drop_and_no_idle_update() -> None:
    config = ScheduleConfig(epochs=10, warmup_epochs=2, form="smooth")
    schedule = Schedule(config, updates_per_epoch=10)
    rates = [schedule.rate(u, LR, LOWEST) for u in range(100)]
    assert rates[0] == pytest.approx(LR / 20)
    assert rates[19] == pytest.approx(LR)
    assert rates[-1] == pytest.approx(LOWEST)
    steps = [b - a for a, b in pairwise(rates)]
    assert all(step > 0 for step in steps[:19])
    assert all(step < 0 for step in steps[19:])
    assert rates[59] == pytest.approx(LOWEST + 0.5 * (LR - LOWEST))


@pytest.mark.parametrize("form", ["published", "smooth"])
def test_without_warm_up_every_rate_is_finite_and_positive(form: str) -> None:
    config = ScheduleConfig(epochs=0.5, warmup_epochs=0, form=form)
    schedule = Schedule(config, updates_per_epoch=4)
    assert schedule.updates == 2
    assert all(0 < schedule.rate(u, LR, LOWEST) <= LR for u in range(2))


def test_a_run_has_at_least_one_update() -> None:
    schedule = Schedule(ScheduleConfig(epochs=0.01, warmup_epochs=0), updates_per_epoch=10)
    assert schedule.updates == 1
    assert math.isfinite(schedule.rate(0, LR, LOWEST))
