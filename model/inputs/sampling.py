"""Which frames of a clip are looked at: pure index arithmetic.

`N` frames can be shown, `T` are taken. Sampling is sparse over the whole clip and knows no
frame rate (X-CLIP paper, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.inputs.spec import FrameSpacing

Indices = NDArray[np.int64]


class FrameRule(StrEnum):
    """Which frame of a segment is taken.

    `EXACT` is the published rule. `KEYFRAMES` takes the frame of the segment that needs the fewest
    pictures decoded, which is a key frame where the segment holds one.
    """

    EXACT = "exact"
    KEYFRAMES = "keyframes"


# As servers are asked: auto is the exact rule where that is cheap enough, else the other.
FrameChoice = Literal["exact", "keyframes", "auto"]


class Segment(NamedTuple):
    """The frames `first` to `end - 1`, of which the cheapest is taken; of several as cheap the one
    nearest to `aim`.
    """

    first: int
    end: int
    aim: int


def sample_segments(
    frames: int,
    num_frames: int,
    *,
    spacing: FrameSpacing = "middle",
    views: int = 1,
    rng: np.random.Generator | None = None,
    rule: FrameRule = FrameRule.EXACT,
) -> list[Segment]:
    """Return where each sampled frame may lie, view by view.

    By `EXACT` a segment is the one frame that `sample_indices` gives. By `KEYFRAMES` it is one of T
    equal parts of the clip (with `rng`, of the parts that this draws from), and that frame its aim.
    The parts of a view share no frame. A clip of fewer than T frames has no parts to choose in:
    both rules take the same frames.
    """
    aims = sample_indices(frames, num_frames, spacing=spacing, views=views, rng=rng)
    if rule is FrameRule.EXACT or frames < num_frames:
        return [Segment(aim, aim + 1, aim) for aim in aims.ravel().tolist()]
    span = frames if rng is None else frames - frames % num_frames
    segments = []
    for view in aims.tolist():
        for i, aim in enumerate(view):
            first, end = (_first_of_part(k, span, num_frames) for k in (i, i + 1))
            segments.append(Segment(first, end, min(max(aim, first), end - 1)))
    return segments


def _first_of_part(i: int, frames: int, parts: int) -> int:
    """Return the first frame whose middle does not lie before part `i`: ceil(i N/T - 1/2)."""
    return -((parts - 2 * i * frames) // (2 * parts))


def choose_frames(segments: Sequence[Segment], costs: Indices | None) -> list[int]:
    """Return the frame taken of each segment: the cheapest, of several the one nearest to its aim,
    of two the first.

    Args:
        segments: Where the frames may lie.
        costs: Pictures to decode for each frame of the clip alone, int64 (N,); None where no frame
            is cheaper than another.
    """
    if costs is None:
        return [segment.aim for segment in segments]
    return [_cheapest(segment, costs[segment.first : segment.end]) for segment in segments]


def _cheapest(segment: Segment, costs: Indices) -> int:
    candidates = np.flatnonzero(costs == costs.min()) + segment.first
    return int(candidates[np.abs(candidates - segment.aim).argmin()])


def sample_indices(
    frames: int,
    num_frames: int,
    *,
    spacing: FrameSpacing = "middle",
    views: int = 1,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Choose which frames of a clip are looked at.

    Without `rng` the test rule: floor(i N/T + N/(2T)), the middle of each of T equal parts.
    Several views look at other places of the same parts: view v of V at the fraction
    (2v + 1)/(2V), so one view, and the middle one of an odd number, is the published rule.
    The official code draws its further views at random; ours are the same on every call.

    With the spacing `ends` it is floor(i (N - 1)/(T - 1)): T frames at equal distance, the first
    and the last among them. Several views share V T such frames in turn.

    With `rng` the training rule: a random frame of each of T parts of N // T frames. A clip
    shorter than T gives round(i N/T) mod N (ties to even), which can wrap to frame 0.

    Args:
        frames: N, the frames of the clip, 1 or more.
        num_frames: T, the frames of one view, 1 or more.
        spacing: Which places of the clip are looked at; without effect in training.
        views: V, 1 or more.
        rng: Draws frames for training; None for the test rule.

    Returns:
        int64 (V, T), numbers from 0 to N - 1.

    Raises:
        ValueError: A count is not positive.
    """
    if frames <= 0 or num_frames <= 0 or views <= 0:
        raise ValueError(
            f"frames, num_frames and views must be positive, not {frames}, {num_frames}, {views}"
        )
    if rng is None and spacing == "ends":
        return _end_to_end_indices(frames, num_frames, views)
    if rng is None:
        return _test_indices(frames, num_frames, views)
    return np.stack([_train_indices(frames, num_frames, rng) for _ in range(views)])


def _test_indices(frames: int, num_frames: int, views: int) -> Indices:
    # floor((i + (2v + 1)/(2V)) * N/T) in integers: no rounding of N/T can move an index.
    part = 2 * views * np.arange(num_frames, dtype=np.int64)[None, :]
    offset = 2 * np.arange(views, dtype=np.int64)[:, None] + 1
    return (part + offset) * frames // (2 * views * num_frames)


def _end_to_end_indices(frames: int, num_frames: int, views: int) -> Indices:
    every = np.arange(num_frames * views, dtype=np.int64)
    every = every * (frames - 1) // max(len(every) - 1, 1)
    return every.reshape(num_frames, views).T


def _train_indices(frames: int, num_frames: int, rng: np.random.Generator) -> Indices:
    part = frames // num_frames
    steps = np.arange(num_frames, dtype=np.int64)
    if part:
        return steps * part + rng.integers(0, part, size=num_frames)
    return np.round(steps * (frames / num_frames)).astype(np.int64) % frames
