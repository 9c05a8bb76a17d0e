"""Times of frames and ranges of seconds, without a video."""

from __future__ import annotations

from fractions import Fraction

import pytest

from model.inputs.errors import RangeError, TooLong, TooShort
from model.inputs.limits import VideoLimits
from model.inputs.video.timeline import Clock, check_duration, select_range

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
    assert Clock(MS, 0.1).shown_times(ticks) == pytest.approx(times)


FILM = [40 * i for i in range(50)]


@pytest.mark.parametrize(
    "ticks",
    [
        FILM[:25] + [t + 40_000_000 for t in FILM[25:]],
        FILM[:25] + [t - 40_000_000 for t in FILM[25:]],
        FILM[:30] + FILM[:20],
        FILM[:40] + FILM[:10],
        FILM[:20] + FILM[:20] + FILM[:10],
        [*FILM[:30], 10_800_000, *FILM[31:]],
        [*FILM[:30], 5_000, *FILM[31:]],
        [*FILM[:30], 0, *FILM[31:]],
        [*FILM[:30], -10_800_000, *FILM[31:]],
        [*FILM[:30], 301_200, 301_240, *FILM[32:]],
        [*FILM[:45], 301_800, *FILM[46:]],
        [*FILM[:49], 10_800_000],
        [10_800_000, *FILM[1:]],
        [2**62, *FILM[1:25], -(2**62), *FILM[26:]],
        [t + 95_000_000_000 if 10 <= i < 20 else t for i, t in enumerate(FILM)],
        FILM[::-1],
        [0] * 50,
    ],
    ids=[
        "clock set forward",
        "clock set back",
        "joined, the same times twice",
        "joined, the second one short",
        "three joined",
        "one frame three hours away",
        "one frame five seconds away",
        "one frame at the beginning",
        "one frame three hours before",
        "two frames five minutes away",
        "a frame near the end far away",
        "the last frame far away",
        "the first frame far away",
        "stamps of the largest numbers",
        "a part a day away",
        "backwards",
        "one time for all",
    ],
)
def test_step_that_no_clock_makes_counts_as_one_frame(ticks: list[int | None]) -> None:
    assert Clock(MS, 0.04).shown_times(ticks) == pytest.approx([t / 1000 for t in FILM])


@pytest.mark.parametrize(
    "ticks",
    [
        [0, 40, 80, 120, 20_120, 20_160],
        [0, 120_000, 240_000, 480_000],
        [0, 0, 40, 40, 80],
        [*FILM, 5_000, 5_040],
    ],
    ids=["a still screen", "time lapse", "fields", "a pause at the end"],
)
def test_pauses_that_a_recording_makes_are_believed(ticks: list[int | None]) -> None:
    assert Clock(MS, 0.04).shown_times(ticks) == pytest.approx([(t or 0) / 1000 for t in ticks])


def test_labels_in_the_order_of_decoding_are_put_in_order() -> None:
    decoding = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8] * 1
    ticks: list[int | None] = [40 * n for n in decoding]
    assert Clock(MS, 0.04).shown_times(ticks) == pytest.approx([0.04 * i for i in range(10)])
    joined = ticks + ticks
    longer = Clock(MS, 0.04).shown_times(joined)
    assert longer == sorted(longer)


def test_broadcasts_have_shorter_pauses() -> None:
    ticks: list[int | None] = [0, 40, 80, 20_080, 20_120]
    assert Clock(MS, 0.04, longest_pause_s=10).shown_times(ticks)[-1] == pytest.approx(0.16)
    assert Clock(MS, 0.04).shown_times(ticks)[-1] == pytest.approx(20.12)


@pytest.mark.parametrize(
    ("duration", "seconds"), [(40, 0.04), (0, 0.1), (2000, 2.0), (10_800_000, 0.04)]
)
def test_last_frame_is_shown_as_long_as_a_clock_can_tell(duration: int, seconds: float) -> None:
    assert Clock(MS, 0.1).last_frame_s(duration, 1.96, 50) == pytest.approx(seconds)


def test_span_over_the_limit_is_refused() -> None:
    check_duration([0, 9.9], VideoLimits(max_duration_s=10))
    with pytest.raises(TooLong, match="longer than 10 seconds"):
        check_duration([0, 10.1], VideoLimits(max_duration_s=10))


def test_times_are_not_rounded_on_the_way() -> None:
    times = Clock(Fraction(1, 30000), 0.1).shown_times([0, 1001, 2002])
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
