"""Which frames of a clip are looked at: pure index arithmetic.

`N` frames can be shown, `T` are taken. Sampling is sparse over the whole clip and knows no
frame rate (X-CLIP paper, section 4.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def sample_indices(
    frames: int,
    num_frames: int,
    *,
    views: int = 1,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Choose which frames of a clip are looked at.

    Without `rng` the test rule: floor(i N/T + N/(2T)), the middle of each of T equal parts.
    Several views look at other places of the same parts: view v of V at the fraction
    (2v + 1)/(2V), so one view, and the middle one of an odd number, is the published rule.
    The official code draws its further views at random; ours are the same on every call.

    With `rng` the training rule: a random frame of each of T parts of N // T frames. A clip
    shorter than T gives round(i N/T) mod N (ties to even), which can wrap to frame 0.

    Args:
        frames: N, the frames of the clip, 1 or more.
        num_frames: T, the frames of one view, 1 or more.
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
    if rng is None:
        return _test_indices(frames, num_frames, views)
    return np.stack([_train_indices(frames, num_frames, rng) for _ in range(views)])


def _test_indices(frames: int, num_frames: int, views: int) -> Indices:
    # floor((i + (2v + 1)/(2V)) * N/T) in integers: no rounding of N/T can move an index.
    part = 2 * views * np.arange(num_frames, dtype=np.int64)[None, :]
    offset = 2 * np.arange(views, dtype=np.int64)[:, None] + 1
    return (part + offset) * frames // (2 * views * num_frames)


def _train_indices(frames: int, num_frames: int, rng: np.random.Generator) -> Indices:
    part = frames // num_frames
    steps = np.arange(num_frames, dtype=np.int64)
    if part:
        return steps * part + rng.integers(0, part, size=num_frames)
    return np.round(steps * (frames / num_frames)).astype(np.int64) % frames
