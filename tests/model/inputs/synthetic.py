"""Make small videos whose pictures carry their number, as in the corpus: tests/model/inputs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np

CELLS = 8


def picture(number: int, width: int, height: int) -> np.ndarray:
    """uint8 (h, w, 3): a bar code of `number` on top, something that moves below."""
    y, x = np.mgrid[:height, :width]
    moving = (x * 2 + y * 3 + number * 5) % 256
    image = np.stack([moving, (moving * 2) % 256, 255 - moving], axis=-1).astype(np.uint8)
    cells = (number % 256) >> (CELLS - 1 - np.arange(width) * CELLS // width) & 1
    image[: max(height // 8, 1)] = (cells * 255)[None, :, None]
    return image


def encode(
    codec: str,
    frames: int,
    *,
    container: str = "mp4",
    size: tuple[int, int] = (64, 48),
    rate: int = 30,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> io.BytesIO:
    """A video of `frames` numbered pictures."""
    width, height = size
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=dict(container_options or {})) as output:
        stream = output.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        for packet in _packets(stream, frames, rate):
            output.mux(packet)
    target.seek(0)
    return target


def _packets(stream: Any, frames: int, rate: int) -> Iterator[Any]:
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(number, stream.width, stream.height))
        frame.pts, frame.time_base = number, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
