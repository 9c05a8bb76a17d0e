"""Decoded pictures become upright RGB: turns, mirrors, transparency, depth."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

import model.inputs.video.clip_reader
import model.inputs.video.picture
from model.inputs import InputSpec, decode_clip
from model.inputs.video.picture import display_matrix, displayed_size, upright_rgb

ONE = 1 << 16
Matrix = tuple[int, int, int, int]


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def frame() -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture(), format="rgb24")


def turned(matrix: Matrix) -> Any:
    """The frame as a decoder gives it from a file with this display matrix."""
    target = io.BytesIO()
    with av.open(target, "w", format="mov") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 10, 6, "rgb24"
        a, b, c, d = (value * ONE for value in matrix)
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        source = frame()
        source.pts = 0
        for packet in [*stream.encode(source), *stream.encode(None)]:
            output.mux(packet)
    target.seek(0)
    with av.open(target, "r") as container:
        return next(container.decode(video=0))


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
def test_display_matrix_is_applied(matrix: Matrix, expected: Any) -> None:
    shown = turned(matrix)
    assert np.array_equal(upright_rgb(shown), expected(picture()))
    height, width = expected(picture()).shape[:2]
    assert displayed_size(shown, Fraction(1)) == (height, width)


def test_pixel_aspect_stretches_the_width_before_the_turn() -> None:
    assert displayed_size(frame(), Fraction(4, 3)) == (6, 13)
    assert displayed_size(turned((0, 1, -1, 0)), Fraction(4, 3)) == (13, 6)


@pytest.mark.parametrize(
    ("matrix", "quarters"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_turn_is_known_where_side_data_is_not(
    matrix: Matrix, quarters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown_kind(_: Any) -> Any:
        raise ValueError("37 is not a valid Type")

    shown = turned(matrix)
    monkeypatch.setattr(model.inputs.video.picture, "SideData", unknown_kind)
    assert np.array_equal(upright_rgb(shown), np.rot90(picture(), quarters))


def test_no_matrix_no_turn() -> None:
    assert display_matrix(frame()) is None
    assert np.array_equal(upright_rgb(frame()), picture())


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_no_picture_outlives_its_taking(
    codec: str, encode_video: Callable[..., io.BytesIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    video = encode_video(codec, 60, container="mov", pixels=pixels)
    alive: list[int] = []

    def counting(picture: Any) -> Any:
        alive.append(sum(type(o) is av.VideoFrame for o in gc.get_objects()))
        return upright_rgb(picture)

    monkeypatch.setattr(model.inputs.video.clip_reader, "upright_rgb", counting)
    gc.collect()
    gc.freeze()  # what else is loaded need not be looked through each time
    gc.disable()
    try:
        decode_clip(video, InputSpec(num_frames=40, image_size=32, resize_short_side=32))
    finally:
        gc.enable()
    assert len(alive) == 40
    assert max(alive) < 10  # what a decoder hands out at once


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
