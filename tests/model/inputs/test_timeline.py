"""Times of frames and ranges of seconds, without a video."""

from __future__ import annotations

from fractions import Fraction

import pytest

from model.inputs.errors import RangeError, TooShort
from model.inputs.video.timeline import select_range, shown_times

MS = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("ticks", "times"),
    [
        ([0, 40, 80], [0, 0.04, 0.08]),
        ([-80, -40, 0], [0, 0.04, 0.08]),
        ([95_443_717, 95_443_757], [0, 0.04]),
        ([0, 80, 40, 120], [0, 0.04, 0.08, 0.12]),
        ([None, None, 0, 40], [0, 0.1, 0.2, 0.24]),
        ([0, None, None], [0, 0.1, 0.2]),
        ([None, None], [0, 0.1]),
        ([7], [0]),
    ],
)
def test_times_start_at_the_first_frame_and_ascend(
    ticks: list[int | None], times: list[float]
) -> None:
    assert shown_times(ticks, MS, 0.1) == pytest.approx(times)


def test_times_are_not_rounded_on_the_way() -> None:
    times = shown_times([0, 1001, 2002], Fraction(1, 30000), 0.1)
    assert times == [0, 1001 / 30000, 2002 / 30000]


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, range(5)),
        (0.2, None, range(2, 5)),
        (None, 0.2, range(3)),
        (0.1, 0.3, range(1, 4)),
        (0.15, 0.25, range(2, 3)),
        (0.2, 99.0, range(2, 5)),
        (-5.0, 0.0, range(1)),
    ],
)
def test_range_holds_the_frames_between_start_and_end(
    start: float | None, end: float | None, frames: range
) -> None:
    assert select_range([i * 0.1 for i in range(5)], start, end) == frames


def test_start_after_the_end_of_the_clip_is_refused() -> None:
    with pytest.raises(RangeError, match="after the last frame") as refused:
        select_range([0, 0.1], 5, None)
    assert refused.value.code == "start_past_end"


def test_start_after_end_is_refused() -> None:
    with pytest.raises(RangeError, match=r"start \(3 s\) lies after end \(1 s\)"):
        select_range([0, 0.1], 3, 1)


def test_range_between_two_frames_is_too_short() -> None:
    with pytest.raises(TooShort) as refused:
        select_range([0, 1, 2], 0.3, 0.4)
    assert refused.value.code == "video_too_short"
