"""Where the windows of a video lie: arithmetic alone."""

from __future__ import annotations

import pytest

from model.inputs.errors import TooManyWindows
from model.inputs.windows import Cut, plan_windows


def starts(begin: float, end: float, window: float, stride: float) -> list[float]:
    windows = plan_windows(begin, end, Cut(window, stride, 1000))
    assert all(stop == pytest.approx(start + window) for start, stop in windows)
    return [start for start, _ in windows]


def test_windows_begin_every_stride_and_the_last_ends_with_the_video() -> None:
    assert starts(0, 10, 4, 2) == [0, 2, 4, 6]
    assert starts(0, 11, 4, 2) == [0, 2, 4, 6, 7]
    assert starts(3, 10, 4, 2) == [3, 5, 6]
    assert starts(0, 0.9, 0.3, 0.1) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_small_rest_gets_no_window_of_its_own() -> None:
    assert starts(0, 10.39, 4, 2) == [0, 2, 4, 6]
    assert starts(0, 10.41, 4, 2) == [0, 2, 4, 6, 6.41]


def test_windows_may_leave_out_what_lies_between_them() -> None:
    assert starts(0, 100, 2, 30) == [0, 30, 60, 90]
    assert starts(0, 31, 2, 30) == [0, 29]
    assert starts(0, 20, 2, 30) == [0]


@pytest.mark.parametrize("window", [5, 5.0001, 1800])
def test_a_video_shorter_than_a_window_is_one(window: float) -> None:
    assert plan_windows(0, 5, Cut(window, 1, 10)) == [(0, 5)]
    assert plan_windows(1.5, 5, Cut(window, 1, 10)) == [(1.5, 5)]


def test_times_are_told_to_the_millisecond_and_the_end_is_not_cut_off() -> None:
    assert plan_windows(0, 1.0003, Cut(2, 1, 10)) == [(0, 1.001)]
    windows = plan_windows(0, 10, Cut(1, 1 / 3, 100))
    assert windows[1] == (0.333, 1.333)
    assert windows[-1] == (9, 10)


@pytest.mark.parametrize("most", [1, 2, 3, 100, 999])
@pytest.mark.parametrize("length", [7.0, 599.96, 86_400.0])
def test_more_windows_than_allowed_are_refused_with_a_stride_that_fits(
    length: float, most: int
) -> None:
    with pytest.raises(TooManyWindows) as refused:
        plan_windows(0, length, Cut(2, 0.005, most))
    facts = refused.value.facts
    assert facts["max_windows"] == most
    assert facts["windows"] > most  # type: ignore[operator]
    stride = float(facts["stride_s"])
    assert f"{stride:g}" in refused.value.detail
    assert len(plan_windows(0, length, Cut(2, stride, most))) <= most
