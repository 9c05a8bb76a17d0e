"""One decoded picture as upright RGB.

Colours follow the matrix and range that the stream states (BT.601 where it states none, as every
FFmpeg-based reader does). High bit depths are reduced to 8 bits; HDR is not tone-mapped. What is
transparent is seen on black. Interlaced pictures are taken as they are, both fields together:
so did the readers that the published weights were trained with.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer

from model.inputs.clip import Pixels

OPAQUE = 255
SideData: Any = SideDataContainer  # its stub knows no constructor
# Display matrices of clockwise quarter turns.
QUARTER_TURNS = (None, (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))


def upright_rgb(frame: Any) -> Pixels:
    """Convert an `av.VideoFrame` to uint8 (h, w, 3), as its display matrix turns and mirrors it."""
    return _turn(_rgb(frame), display_matrix(frame))


def displayed_size(frame: Any, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return (height, width) as a player shows it: with its width stretched, then turned."""
    width = max(round(frame.width * pixel_aspect), 1)
    matrix = display_matrix(frame)
    return (width, frame.height) if matrix and _is_transposed(matrix) else (frame.height, width)


def display_matrix(frame: Any) -> tuple[int, ...] | None:
    """Return two columns (a, b, c, d) of the display matrix: x' = a x + c y, y' = b x + d y."""
    try:
        # Not `frame.side_data`: a frame keeps that, and it keeps the frame, so that each picture
        # would stay in memory until the garbage collector runs.
        data = SideData(frame).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV lists no side data at all where one kind is unknown to it; it still knows the angle.
        return QUARTER_TURNS[round(-frame.rotation / 90) % 4]
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    return a, b, c, d


def _rgb(frame: Any) -> Pixels:
    if not _has_alpha(frame):
        return _first_plane(frame.reformat(format="rgb24", threads=1), 3)
    rgba = _first_plane(frame.reformat(format="rgba", threads=1), 4)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == OPAQUE:
        return colour
    half = OPAQUE // 2
    return ((colour.astype(np.uint16) * alpha + half) // OPAQUE).astype(np.uint8)


def _first_plane(frame: Any, channels: int) -> Pixels:
    """Return a packed picture without copying it; its rows may be padded."""
    plane = frame.planes[0]
    return np.ndarray(
        (frame.height, frame.width, channels),
        dtype=np.uint8,
        buffer=plane,
        strides=(plane.line_size, channels, 1),
    )


def _has_alpha(frame: Any) -> bool:
    return frame.format.has_palette or any(c.is_alpha for c in frame.format.components)


def _is_transposed(matrix: tuple[int, ...]) -> bool:
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def _turn(image: Pixels, matrix: tuple[int, ...] | None) -> Pixels:
    """Turn by quarters and mirror; an angle between quarters is taken as the nearest."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if _is_transposed(matrix):
        image = image.swapaxes(0, 1)
        across, down = c, b
    else:
        across, down = a, d
    if across < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return image
