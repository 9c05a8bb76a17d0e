"""When each frame is shown, in seconds from the first one, and which frames a range holds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction

from model.inputs.errors import RangeError, ReversedRange, TooShort

# Half a microsecond: `start` and `end` are decimal, frame times are multiples of a clock tick.
TOLERANCE_S = 5e-7


def seconds(tick: int, origin: int, time_base: Fraction) -> float:
    """The time from `origin` to `tick`, correctly rounded."""
    return (tick - origin) * time_base.numerator / time_base.denominator


def shown_times(
    ticks: Sequence[int | None], time_base: Fraction, frame_step_s: float
) -> list[float]:
    """Seconds of each frame after the first, ascending.

    Frames come in the order in which they are shown, so their times must ascend; where a file
    labels them otherwise the times are put in order. A frame without one gets that of its
    neighbour, a nominal step away.
    """
    known = [(i, t) for i, t in enumerate(ticks) if t is not None]
    if not known:
        return [i * frame_step_s for i in range(len(ticks))]
    first, origin = known[0]
    times: list[float] = []
    for i, tick in enumerate(ticks):
        if tick is not None:
            times.append(seconds(tick, origin, time_base))
        else:
            times.append(times[-1] + frame_step_s if i > first else (i - first) * frame_step_s)
    times.sort()
    earliest = times[0]
    return [t - earliest for t in times] if earliest else times


def select_range(times: Sequence[float], start: float | None, end: float | None) -> range:
    """The frames with start <= time <= end; raises where there are none."""
    if start is not None and end is not None and start > end:
        raise ReversedRange(start_s=start, end_s=end)
    first = 0 if start is None else bisect_left(times, start - TOLERANCE_S)
    last = len(times) if end is None else bisect_right(times, end + TOLERANCE_S)
    if first >= len(times):
        raise RangeError(start_s=start or 0.0, last_s=times[-1])
    if first >= last:
        raise TooShort
    return range(first, last)
