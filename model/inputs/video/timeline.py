"""When each frame is shown, in seconds from the first one, and which frames a range holds.

Time stamps are believed as far as one clock can have made them. Joined recordings, a clock that was
set and single wrong stamps leave steps that no clock makes: back, or far more than usual. Frames
keep the order in which the decoder shows them, and each such step counts as one nominal frame.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from model.inputs.errors import RangeError, ReversedRange, TooLong, TooShort
from model.inputs.limits import VideoLimits

# Half a microsecond: `start` and `end` are decimal, frame times are multiples of a clock tick.
TOLERANCE_S = 5e-7
# One more than the pictures any codec may keep back: labels further out of order are no reordering.
LONGEST_REORDER = 17
# A pause is longer than the clock's own limit and this many times the usual step, else it is real.
FAR_STEPS = 100
EXACT = 2**53
WIDEST = 2**61

Ticks = NDArray[np.int64]


@dataclass(frozen=True)
class Clock:
    """The clock of a stream.

    Attributes:
        time_base: Seconds per tick.
        frame_step_s: Nominal seconds per frame, for frames that carry no time.
        longest_pause_s: A longer step forward is a clock that was set, unless steps are that long.
    """

    time_base: Fraction
    frame_step_s: float
    longest_pause_s: float = 60.0

    @property
    def longest_pause(self) -> int:
        """`longest_pause_s` in ticks."""
        return int(self.longest_pause_s / self.time_base)

    def seconds(self, tick: int, origin: int) -> float:
        """Return the time from `origin` to `tick`, correctly rounded."""
        return (tick - origin) * self.time_base.numerator / self.time_base.denominator

    def shown_times(self, ticks: Sequence[int | None]) -> list[float]:
        """Return the seconds of each frame after the first, ascending.

        Args:
            ticks: Time stamps in the order in which the frames are shown; None where one is
                missing: such a frame comes a nominal step after the one before it.
        """
        known = next((i for i, tick in enumerate(ticks) if tick is not None), None)
        if known is None:
            return [i * self.frame_step_s for i in range(len(ticks))]
        step = max(round(self.frame_step_s / self.time_base), 1)
        if None in ticks:
            ticks = _fill(ticks, known, step)
        labels = np.clip(np.array(ticks, dtype=np.int64), -WIDEST, WIDEST)
        return self._all_seconds(steady_ticks(labels, step, self.longest_pause))

    def last_frame_s(self, duration: int, last_time: float, frames: int) -> float:
        """Return the last frame's seconds, by its `duration` in ticks; 0 where not stated."""
        stated = float(duration * self.time_base)
        mean = last_time / (frames - 1) if frames > 1 else stated
        far = stated > self.longest_pause_s and stated > FAR_STEPS * mean
        return mean if far else stated or self.frame_step_s

    def _all_seconds(self, ticks: Ticks) -> list[float]:
        if abs(int(ticks[-1]) - int(ticks[0])) * self.time_base.numerator >= EXACT:
            origin = int(ticks[0])
            return [self.seconds(tick, origin) for tick in ticks.tolist()]
        scaled = (ticks - ticks[0]) * self.time_base.numerator
        times: list[float] = (scaled / self.time_base.denominator).tolist()
        return times


def check_duration(times: Sequence[float], limits: VideoLimits) -> None:
    """Refuse a clip whose frames span more than the limit."""
    if times and times[-1] > limits.max_duration_s:
        raise TooLong(max_duration_s=limits.max_duration_s)


def steady_ticks(labels: Ticks, nominal: int, longest_pause: int) -> Ticks:
    """Return ascending times of frames in the order shown, from what the file labels them with.

    Args:
        labels: int64, one per frame.
        nominal: Ticks per frame where the labels themselves do not tell.
        longest_pause: Ticks.
    """
    if _merely_reordered(labels):
        labels = np.sort(labels)
    steps = np.diff(labels)
    if not (steps > 0).any():
        return np.arange(len(labels), dtype=np.int64) * nominal
    usual = _usual_step(steps, nominal)
    breaks = np.flatnonzero(_breaks(labels, steps, usual, longest_pause)) + 1
    if not len(breaks) and (steps >= 0).all():
        return labels
    pieces = [_ascending(piece, usual) for piece in np.split(labels, breaks)]
    usual = _usual_step(np.concatenate([np.diff(piece) for piece in pieces]), usual)
    begin, steady = 0, []
    for piece in pieces:
        steady.append(piece - piece[0] + begin)
        begin = int(steady[-1][-1]) + usual
    return np.concatenate(steady)


def reaches_back(order: Ticks, times: Ticks) -> bool:
    """Return whether a frame after a large step in `times` may be one with a wrong label.

    `order` holds the number of each frame in decoding order, `times` its ascending label. The
    frames after a real pause go on in decoding order behind all that come before it; one wrong
    label stands alone, with later frames before it.
    """
    steps = np.diff(times)
    large = np.flatnonzero(steps > LONGEST_REORDER * _usual_step(steps, 1))
    if not len(large):
        return False
    before = np.maximum.accumulate(order)
    after = np.maximum.accumulate(order[::-1])[::-1]
    return bool((after[large + 1] < before[large]).any())


def _fill(ticks: Sequence[int | None], known: int, step: int) -> list[int]:
    """Give frames without a time that of their neighbour, a nominal step away."""
    filled: list[int] = []
    origin = ticks[known] or 0
    for i, tick in enumerate(ticks):
        if tick is None:
            tick = filled[-1] + step if i > known else origin - (known - i) * step
        filled.append(tick)
    return filled


def _usual_step(steps: Ticks, default: int) -> int:
    forward = steps[steps > 0]
    return max(int(np.median(forward)), 1) if len(forward) else default


def _breaks(labels: Ticks, steps: Ticks, usual: int, longest_pause: int) -> NDArray[np.bool_]:
    """Find the steps that no clock makes: far back, far forward, or forward and undone later."""
    reach = LONGEST_REORDER * usual
    before, after = labels[:-1], labels[1:]
    latest = np.maximum.accumulate(before)
    earliest = np.minimum.accumulate(after[::-1])[::-1]
    away = (earliest < after - reach) & (earliest >= before - reach)
    home = (latest > before + reach) & (latest <= after + reach)
    far = steps > max(longest_pause, FAR_STEPS * usual)
    result: NDArray[np.bool_] = (steps < -reach) | far | ((steps > reach) & (away | home))
    return result


def _ascending(labels: Ticks, usual: int) -> Ticks:
    """Put labels between two breaks in ascending order; a step back counts as one step on."""
    steps = np.diff(labels)
    if (steps >= 0).all():
        return labels
    if _merely_reordered(labels):
        return np.sort(labels)
    return np.cumsum(np.concatenate([labels[:1], np.where(steps < 0, usual, steps)]))


def _merely_reordered(labels: Ticks) -> bool:
    """Return whether the labels are in decoding order: all different, few places apart."""
    order = np.argsort(labels, kind="stable")
    moved = np.abs(order - np.arange(len(labels))).max(initial=0)
    if not 0 < moved <= LONGEST_REORDER:
        return False
    steps = np.diff(labels[order])
    return bool(steps.min() > 0 and steps.max() <= LONGEST_REORDER * np.median(steps))


def select_range(times: Sequence[float], start: float | None, end: float | None) -> range:
    """Return the frames with start <= time <= end; raises where there are none."""
    if start is not None and end is not None and start > end:
        raise ReversedRange(start_s=start, end_s=end)
    first = 0 if start is None else bisect_left(times, start - TOLERANCE_S)
    last = len(times) if end is None else bisect_right(times, end + TOLERANCE_S)
    if first >= len(times):
        raise RangeError(start_s=start or 0.0, last_s=times[-1])
    if first >= last:
        raise TooShort
    return range(first, last)
