"""Bilinear resize as OpenCV does it on uint8, in numpy: the published X-CLIP preprocessing.

The rule looks at four source pixels per output pixel, whatever the reduction (no antialiasing),
so its outcome differs visibly from other libraries' bilinear. Weights are 11-bit fixed point.
Only the part of the output that is asked for is computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.inputs.clip import Pixels

COEFFICIENT_BITS = 11
ONE = 1 << COEFFICIENT_BITS

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]
Window = tuple[int, int, int, int]


def resize_bilinear(image: Pixels, size: tuple[int, int], window: Window | None = None) -> Pixels:
    """Resize uint8 (h, w, 3) to `size` (height, width); returns `window` of the outcome.

    `window` is (top, left, height, width) in output pixels; default everything.
    """
    height, width = size
    top, left, rows, columns = window or (0, 0, height, width)
    if image.shape[:2] == (height, width):
        return image[top : top + rows, left : left + columns]
    if image.shape[:2] == (2 * height, 2 * width):
        return _halve(image, (top, left, rows, columns))
    down = _taps(image.shape[0], height, top, rows)
    across = _taps(image.shape[1], width, left, columns, settle=True)
    upper, lower = _horizontal(image, down, across)
    # The same shifts in the same order as OpenCV: they lose bits, and the result depends on it.
    upper *= down[2][:, None]
    upper >>= 16
    lower *= down[3][:, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8).reshape(rows, columns, 3)


def _taps(source: int, target: int, first: int, count: int, settle: bool = False) -> Taps:
    """Return the two source positions and fixed-point weights of `count` outputs from `first`.

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
    image: Pixels, down: Taps, across: Taps
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Resize along x the rows above and below each output row: int32 (rows, columns * 3)."""
    y0, y1, _, _ = down
    x0, x1, weight0, weight1 = across
    left, right = int(x0[0]), int(x1[-1]) + 1
    channel = np.arange(3)
    columns0 = ((x0 - left)[:, None] * 3 + channel).ravel()
    columns1 = ((x1 - left)[:, None] * 3 + channel).ravel()
    weight0, weight1 = np.repeat(weight0, 3), np.repeat(weight1, 3)

    def resize_rows(rows: Pixels) -> NDArray[np.int32]:
        flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
        mixed: NDArray[np.int32] = flat.take(columns0, axis=1, mode="clip") * weight0
        mixed += flat.take(columns1, axis=1, mode="clip") * weight1
        mixed >>= 4
        return mixed

    first, last = int(y0[0]), int(y1[-1]) + 1
    if last - first < 2 * len(y0):
        # Neighbouring outputs share source rows: resize each once.
        shared = resize_rows(image[first:last, left:right])
        return shared[y0 - first], shared[y1 - first]
    return resize_rows(image[y0, left:right]), resize_rows(image[y1, left:right])


def _halve(image: Pixels, window: Window) -> Pixels:
    """Halve exactly: OpenCV then takes the mean of four pixels, not two taps."""
    top, left, rows, columns = window
    part = image[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)].astype(np.uint16)
    total = part[0::2, 0::2] + part[0::2, 1::2] + part[1::2, 0::2] + part[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)
