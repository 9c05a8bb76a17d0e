"""Which clips are drawn when: all of them, once an epoch, the same ones after a restart."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from model.data.errors import DataError
from model.data.frames.order import Draw, Plan
from model.data.frames.streams import Stream, generator


def drawn(plan: Plan, start: int, stop: int, rank: int = 0) -> list[Draw]:
    return list(chain.from_iterable(plan.draws(rank, start, stop)))


def test_an_epoch_draws_every_clip_at_most_once() -> None:
    plan = Plan(clips=23, batch=4, micro_batch=2, processes=1, seed=5)
    assert plan.updates_per_epoch == 5
    for epoch in range(3):
        draws = drawn(plan, epoch * 5, epoch * 5 + 5)
        assert len(draws) == 20
        assert max(Counter(d.index for d in draws).values()) == 1
        assert {d.epoch for d in draws} == {epoch}


def test_epochs_differ_and_the_clips_left_out_change() -> None:
    plan = Plan(clips=23, batch=4, micro_batch=4, processes=1, seed=5)
    orders = [[d.index for d in drawn(plan, e * 5, e * 5 + 5)] for e in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    assert set(chain.from_iterable(orders)) == set(range(23))


@pytest.mark.parametrize("split", [1, 3, 7])
def test_going_on_draws_what_an_unbroken_run_draws(split: int) -> None:
    plan = Plan(clips=17, batch=4, micro_batch=2, processes=1, seed=1)
    assert drawn(plan, 0, 10) == drawn(plan, 0, split) + drawn(plan, split, 10)


@pytest.mark.parametrize(("processes", "micro_batch"), [(2, 2), (2, 4), (4, 1), (1, 4)])
def test_processes_share_each_batch(processes: int, micro_batch: int) -> None:
    whole = Plan(clips=33, batch=8, micro_batch=8, processes=1, seed=9)
    parts = Plan(33, 8, micro_batch, processes, 9)
    for update in range(6):
        together = [drawn(parts, update, update + 1, rank) for rank in range(processes)]
        assert {len(part) for part in together} == {8 // processes}
        key = [(d.index, d.epoch, d.position) for d in drawn(whole, update, update + 1)]
        assert sorted((d.index, d.epoch, d.position) for d in chain(*together)) == sorted(key)


def test_each_draw_has_random_numbers_of_its_own() -> None:
    plan = Plan(clips=8, batch=4, micro_batch=4, processes=1, seed=2)
    values = {float(d.rng(Stream.FRAMES).random()) for d in drawn(plan, 0, 8)}
    assert len(values) == 32
    again = Draw(3, 2, 1, 6)
    same = Draw(3, 2, 1, 6)
    assert np.array_equal(again.rng(Stream.FRAMES).random(3), same.rng(Stream.FRAMES).random(3))


def test_streams_never_coincide() -> None:
    """Neither of two purposes, nor of keys that zeros would make alike, nor of other seeds."""
    keys = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 0, 0)]
    drawn = {
        tuple(generator(seed, stream, *key).integers(1 << 62, size=2).tolist())
        for seed in (0, 1, 1 << 32, 1 << 64)
        for stream in Stream
        for key in keys
    }
    assert len(drawn) == 4 * len(Stream) * len(keys)


def test_the_numbers_of_a_published_seed_stay() -> None:
    """What a run of an earlier version drew, its continuation draws as well."""
    assert generator(1024, Stream.ORDER, 3).permutation(6).tolist() == [1, 5, 0, 2, 3, 4]


def test_what_does_not_fit_says_which_key_to_change() -> None:
    with pytest.raises(DataError, match=r"micro-batches of 3 for 2 processes: change batch\.size"):
        Plan(clips=100, batch=8, micro_batch=3, processes=2, seed=0)
    with pytest.raises(DataError, match=r"less than one batch of 32: set a smaller batch\.size"):
        Plan(clips=20, batch=32, micro_batch=8, processes=1, seed=0)


def test_balanced_each_class_is_drawn_equally_often_and_its_clips_evenly() -> None:
    classes = (0,) * 17 + (1,) * 2 + (3,) * 5
    plan = Plan(24, 8, 8, 1, seed=0, balanced=classes)
    for epoch in range(4):
        first = epoch * plan.updates_per_epoch
        drawn = [d.index for ds in plan.draws(0, first, first + 3) for d in ds]
        assert [sum(classes[i] == label for i in drawn) for label in (0, 1, 3)] == [8, 8, 8]
        assert [drawn.count(i) for i in (17, 18)] == [4, 4]
        assert {drawn.count(i) for i in range(19, 24)} == {1, 2}
        assert max(drawn.count(i) for i in range(17)) == 1
    again = Plan(24, 8, 2, 2, seed=0, balanced=classes)
    both = [[d.index for ds in again.draws(rank, 0, 3) for d in ds] for rank in (0, 1)]
    assert sorted(both[0] + both[1]) == sorted(d.index for ds in plan.draws(0, 0, 3) for d in ds)
