"""How a video is cut into windows: pure arithmetic on seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.inputs.errors import TooManyWindows

# What remains behind the last whole window gets one of its own, unless it is a smaller share of it.
SMALLEST_REST = 0.1
DIGITS = 3  # of a second, as answers give times: whoever asks with them means the same frames


@dataclass(frozen=True)
class Cut:
    """Windows of `window_s` seconds, one every `stride_s` seconds, `most` of them at most."""

    window_s: float
    stride_s: float
    most: int


def plan_windows(begin_s: float, end_s: float, cut: Cut) -> list[tuple[float, float]]:
    """Return start and end of each window, in order, to the millisecond.

    All are `window_s` long, unless there is less than one: then it is the whole. Where the last
    of them ends before `end_s`, one more ends there, and begins less than a stride after the last.

    Raises:
        TooManyWindows: They are more than `cut.most`; its sentence names a stride that fits.
    """
    length = end_s - begin_s
    if length <= cut.window_s:
        return [(round(begin_s, DIGITS), _up(end_s))]
    # The quotient of decimal numbers may fall a little short of a whole one.
    count = math.floor((length - cut.window_s) / cut.stride_s + 1e-9) + 1
    rest = length - (count - 1) * cut.stride_s - cut.window_s
    has_rest = rest > SMALLEST_REST * cut.window_s and count * cut.stride_s < length
    if count + has_rest > cut.most:
        raise TooManyWindows(
            windows=count + has_rest,
            max_windows=cut.most,
            stride_s=_fitting_stride(length, cut),
        )
    starts = [begin_s + i * cut.stride_s for i in range(count)]
    if has_rest:
        starts.append(_up(end_s) - cut.window_s)
    rounded = [round(start, DIGITS) for start in starts]
    return [(start, round(start + cut.window_s, DIGITS)) for start in rounded]


def _up(seconds: float) -> float:
    """Round up, so that the last frame is not cut off."""
    return math.ceil(seconds * 10**DIGITS - 1e-6) / 10**DIGITS


def _fitting_stride(length: float, cut: Cut) -> float:
    """Return a stride, rounded up to two digits, that leaves `most` windows or fewer."""
    least = length if cut.most == 1 else (length - cut.window_s) / (cut.most - 1)
    return math.floor(100 * least + 1) / 100
