"""A decoded clip: what `decode_clip` returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """The stream that was looked at. Sizes are as displayed: turned upright, square pixels."""

    duration_s: float | None
    fps: float | None
    width: int
    height: int
    codec: str
    frames: int


@dataclass(frozen=True)
class Clip:
    """Frames ready for a network.

    `frames` is uint8 RGB, C-contiguous, shape (crops * views, T, H, W, 3), all views of the first
    crop before those of the second. `frame_times_s` holds the time of each sampled frame,
    views * T values, view by view.
    """

    frames: Pixels
    info: VideoInfo
    frame_times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.dtype != np.uint8 or self.frames.shape[-1] != 3:
            raise ValueError(
                f"frames must be uint8 (views, T, H, W, 3), not {self.frames.dtype} "
                f"{self.frames.shape}"
            )
