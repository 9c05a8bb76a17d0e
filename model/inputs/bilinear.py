"""Bilinear resize as OpenCV does it on uint8, in numpy: the published X-CLIP preprocessing.

The rule looks at four source pixels per output pixel, whatever the reduction (no antialiasing),
so its outcome differs visibly from other libraries' bilinear. Weights are 11-bit fixed point.
Only the wanted part of the output is computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.inputs.clip import Pixels

COEFFICIENT_BITS = 11
ONE = 1 << COEFFICIENT_BITS

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]


def resize_bilinear(
    image: Pixels, size: tuple[int, int], window: tuple[int, int, int, int] | None = None
) -> Pixels:
    """Resize uint8 (h, w, C) to `size` (height, width); returns `window` of the outcome.

    `window` is (top, left, height, width) in output pixels; default everything.
    """
    height, width = size
    top, left, rows, columns = window or (0, 0, height, width)
    if (image.shape[0], image.shape[1]) == (height, width):
        return image[top : top + rows, left : left + columns]
    if image.shape[0] == 2 * height and image.shape[1] == 2 * width:
        return _halve(image, (top, left, rows, columns))
    y0, y1, down0, down1 = _taps(image.shape[0], height, top, rows)
    x0, x1, right0, right1 = _taps(image.shape[1], width, left, columns, settle=True)
    upper = _horizontal(image[y0], x0, x1, right0, right1)
    lower = _horizontal(image[y1], x0, x1, right0, right1)
    # The same shifts in the same order as OpenCV: they lose bits, and the result depends on it.
    blended = ((upper >> 4) * down0[:, None, None] >> 16) + (
        (lower >> 4) * down1[:, None, None] >> 16
    )
    return ((blended + 2) >> 2).astype(np.uint8)


def _taps(source: int, target: int, first: int, count: int, settle: bool = False) -> Taps:
    """The two source positions and fixed-point weights of `count` outputs from `first`.

    Beyond the border both taps read the border pixel. With `settle` all weight goes to the first
    of them, as OpenCV does along x but not along y: the same but for the last bit.
    """
    scale = 1.0 / (target / source)
    position = ((np.arange(first, first + count) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(position).astype(np.intp)
    fraction = position - before.astype(np.float32)
    if settle:
        fraction[(before < 0) | (before >= source - 1)] = 0
    weight0 = np.rint((np.float32(1) - fraction) * np.float32(ONE)).astype(np.int32)
    weight1 = np.rint(fraction * np.float32(ONE)).astype(np.int32)
    return np.clip(before, 0, source - 1), np.clip(before + 1, 0, source - 1), weight0, weight1


def _horizontal(
    rows: Pixels,
    x0: NDArray[np.intp],
    x1: NDArray[np.intp],
    weight0: NDArray[np.int32],
    weight1: NDArray[np.int32],
) -> NDArray[np.int32]:
    return rows[:, x0] * weight0[:, None] + rows[:, x1] * weight1[:, None]


def _halve(image: Pixels, window: tuple[int, int, int, int]) -> Pixels:
    """Exactly half size is the mean of four pixels in OpenCV, not two taps."""
    top, left, rows, columns = window
    part = image[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)].astype(np.uint16)
    total = part[0::2, 0::2] + part[0::2, 1::2] + part[1::2, 0::2] + part[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)
