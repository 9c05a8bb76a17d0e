"""Frames to video files of several containers and codecs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from model.data.shapes.backgrounds import Picture


@dataclass(frozen=True)
class Format:
    """A container with a codec; `quality` are the bounds of the encoder's own scale."""

    suffix: str
    codec: str
    quality: tuple[int, int]
    options: dict[str, str]


FORMATS = {
    # With macroblock trees x264's assembly gives the same frames other bytes from time to time.
    "h264": Format(".mp4", "libx264", (16, 34), {"preset": "veryfast", "mbtree": "0"}),
    "mpeg4": Format(".avi", "mpeg4", (2, 12), {}),
    "vp9": Format(
        ".webm", "libvpx-vp9", (20, 45), {"deadline": "realtime", "cpu-used": "8", "b": "0"}
    ),
}
SHARES = {"h264": 0.88, "mpeg4": 0.08, "vp9": 0.04}


def draw_format(rng: np.random.Generator) -> tuple[str, int]:
    """Draw a format by its name, mostly H.264 in mp4, and how hard to compress."""
    name = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    low, high = FORMATS[name].quality
    return name, int(rng.integers(low, high + 1))


def write_video(
    path: Path, frames: Iterable[Picture], *, rate: int, encoding: str = "h264", quality: int = 23
) -> None:
    """Encode frames (h,w,3) uint8 of even height and width, `rate` a second.

    `quality` is the encoder's own scale, lower is better.
    """
    form = FORMATS[encoding]
    options = {**form.options, ("qmin" if form.codec == "mpeg4" else "crf"): str(quality)}
    if form.codec == "mpeg4":
        options["qmax"] = str(quality)
    # Without the numbers and dates that would tell one writing from the next.
    with av.open(str(path), "w", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream(form.codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for i, pixels in enumerate(frames):
            if i == 0:
                stream.height, stream.width = pixels.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
