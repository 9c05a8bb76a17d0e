"""Decoded pictures become upright RGB: turns, mirrors, transparency, depth."""

from __future__ import annotations

import struct
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from model.inputs.video.picture import display_matrix, displayed_size, upright_rgb

ONE = 1 << 16


class Turned:
    """A frame with a display matrix, which PyAV cannot attach to a frame."""

    def __init__(self, frame: Any, matrix: tuple[int, int, int, int]) -> None:
        a, b, c, d = (value * ONE for value in matrix)
        packed = struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        self._frame = frame
        self.side_data = [Side(packed)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


class Side(bytes):
    """Side data: bytes with a type."""

    type = SimpleNamespace(name="DISPLAYMATRIX")


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def frame() -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture(), format="rgb24")


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
    ],
)
def test_display_matrix_is_applied(matrix: tuple[int, int, int, int], expected: Any) -> None:
    turned = Turned(frame(), matrix)
    assert np.array_equal(upright_rgb(turned), expected(picture()))
    height, width = expected(picture()).shape[:2]
    assert displayed_size(turned, Fraction(1)) == (height, width)


def test_pixel_aspect_stretches_the_width_before_the_turn() -> None:
    assert displayed_size(frame(), Fraction(4, 3)) == (6, 13)
    assert displayed_size(Turned(frame(), (0, 1, -1, 0)), Fraction(4, 3)) == (13, 6)


@pytest.mark.parametrize(
    ("rotation", "quarters"), [(0, 0), (-90, -1), (180, 2), (-180, 2), (90, 1)]
)
def test_turn_is_known_where_side_data_is_not(rotation: int, quarters: int) -> None:
    class Odd(Turned):
        """A frame with side data of a kind that PyAV has no name for."""

        def __init__(self) -> None:
            self._frame = frame()
            self.rotation = rotation

        @property
        def side_data(self) -> Any:  # type: ignore[override]
            raise ValueError("37 is not a valid Type")

    assert np.array_equal(upright_rgb(Odd()), np.rot90(picture(), quarters))


def test_no_matrix_no_turn() -> None:
    assert display_matrix(frame()) is None
    assert np.array_equal(upright_rgb(frame()), picture())


def test_transparency_is_seen_on_black() -> None:
    rgba = np.zeros((2, 4, 4), dtype=np.uint8)
    rgba[..., :3] = 200
    rgba[..., 3] = [0, 51, 128, 255]
    shown = upright_rgb(av.VideoFrame.from_ndarray(rgba, format="rgba"))
    assert shown[0, :, 0].tolist() == [0, 40, 100, 200]


def test_opaque_pictures_with_alpha_keep_their_colours() -> None:
    rgba = np.dstack([picture(), np.full((6, 10), 255, np.uint8)])
    assert np.array_equal(upright_rgb(av.VideoFrame.from_ndarray(rgba, format="rgba")), picture())


@pytest.mark.parametrize("pixels", ["gray", "yuv420p10le", "yuv444p", "gbrp", "rgb48le"])
def test_every_depth_and_layout_becomes_8_bit_rgb(pixels: str) -> None:
    grey = np.full((16, 16, 3), 180, dtype=np.uint8)
    source = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=pixels)
    shown = upright_rgb(source)
    assert shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - 180).max() <= 2
