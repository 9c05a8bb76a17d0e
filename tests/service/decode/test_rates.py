"""What a plan costs, learned from clips of the same kind."""

from __future__ import annotations

from typing import Any

import pytest

from model.inputs import FrameRule
from model.inputs.work import Work
from service.decode.rates import (
    ENOUGH_PICTURES,
    FASTEST,
    MOST_KINDS,
    PRIOR,
    LearnedRates,
    estimated_s,
    kind_of,
)

PICTURE = 3840 * 2160


def work(**changed: Any) -> Work:
    facts: dict[str, Any] = {
        "codec": "hevc",
        "depth": 10,
        "pixels": PICTURE,
        "pictures": 100,
        "seconds": 10.0,
    }
    return Work(**(facts | changed))


def test_before_anything_is_known_the_size_tells() -> None:
    assert estimated_s(work(), {}) == pytest.approx(100 * PICTURE / PRIOR[FrameRule.EXACT])
    assert estimated_s(work(pictures=200), {}) == pytest.approx(2 * estimated_s(work(), {}))


@pytest.mark.parametrize("seconds", [1.0, 3.0, 40.0])
def test_the_estimate_comes_to_what_was_measured(seconds: float) -> None:
    rates = LearnedRates()
    for _ in range(40):
        rates.learn(work(seconds=seconds))
    assert estimated_s(work(), rates.known) == pytest.approx(seconds, rel=0.01)
    other = work(pixels=PICTURE // 4)
    assert estimated_s(other, rates.known) == estimated_s(other, {})


def test_one_odd_clip_moves_the_estimate_little() -> None:
    rates = LearnedRates()
    rates.learn(work(seconds=1e-9))
    assert rates.known[kind_of(work())] == pytest.approx(
        PRIOR[FrameRule.EXACT] ** 0.8 * FASTEST**0.2
    )


@pytest.mark.parametrize("rule", FrameRule)
def test_few_small_pictures_say_only_that_it_is_no_slower(rule: FrameRule) -> None:
    rates, small = LearnedRates(), {"pixels": 640 * 360, "rule": rule}
    few = small | {"pictures": ENOUGH_PICTURES - 1}
    rates.learn(work(seconds=1e5, **few))
    assert rates.known[kind_of(work(**small))] == PRIOR[rule]
    rates.learn(work(seconds=0.01, **few))
    assert rates.known[kind_of(work(**small))] > PRIOR[rule]


def test_few_large_pictures_are_believed_both_ways() -> None:
    """Else cheap key frames, all of one colour, would have all others taken for small clips."""
    rates, keys = LearnedRates(), work(pictures=8, rule=FrameRule.KEYFRAMES)
    for seconds in (0.05, 2.0):
        for _ in range(40):
            rates.learn(keys.model_copy(update={"seconds": seconds}))
        assert estimated_s(keys, rates.known) == pytest.approx(seconds, rel=0.01)


def test_key_frames_are_known_apart_from_pictures_that_refer_to_others() -> None:
    """However fast the others are, a plan of large key frames is not taken for a small clip."""
    rates = LearnedRates()
    for _ in range(40):
        rates.learn(work(pictures=300, seconds=1.0))
    keys = work(pictures=8, rule=FrameRule.KEYFRAMES)
    assert estimated_s(keys, rates.known) == estimated_s(keys, {}) > 1
    assert estimated_s(work(pictures=8), rates.known) < 0.1


def test_what_was_not_measured_teaches_nothing() -> None:
    rates = LearnedRates()
    for nothing in (work(seconds=0.0), work(pictures=0), work(pixels=0)):
        rates.learn(nothing)
    assert rates.known == {}


def test_kinds_are_bounded_and_the_oldest_goes() -> None:
    rates = LearnedRates()
    for i in range(3 * MOST_KINDS):
        rates.learn(work(codec=f"codec{i}"))
        rates.learn(work(codec="kept"))
    assert len(rates.known) == MOST_KINDS
    assert kind_of(work(codec="kept")) in rates.known
