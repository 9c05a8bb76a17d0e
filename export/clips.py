"""Clips to compare on: the user's files, or three H.264 files that we encode on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from model.inputs import InputSpec, VideoError, decode_clip

Pixels = NDArray[np.uint8]
SECONDS, FPS, HEIGHT, WIDTH = 2, 15, 240, 320


@dataclass(frozen=True)
class ClipSamples:
    """Decoded clips, uint8 (N,T,H,W,3), with their names and where they came from."""

    names: tuple[str, ...]
    frames: Pixels
    source: Literal["given", "generated"]


def load_clips(paths: Sequence[Path], spec: InputSpec) -> ClipSamples:
    """Decode the given files; without any, generated ones. `ValueError` names a bad file."""
    if not paths:
        return generated_clips(spec)
    frames = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                frames.append(decode_clip(stream, spec).frames[0])
        except OSError as error:
            raise ValueError(f"clip {path} cannot be read: {error.strerror}") from error
        except VideoError as error:
            raise ValueError(f"clip {path} cannot be used: {error.detail}") from error
    return ClipSamples(tuple(path.name for path in paths), np.stack(frames), "given")


def generated_clips(spec: InputSpec) -> ClipSamples:
    """Encode and decode three scenes that differ in motion and texture."""
    scenes = {"rolling-waves": _waves, "falling-tiles": _tiles, "growing-disc": _disc}
    clips = [decode_clip(io.BytesIO(_encode(scene)), spec).frames[0] for scene in scenes.values()]
    return ClipSamples(tuple(scenes), np.stack(clips), "generated")


def _encode(scene: Callable[[float], NDArray[np.float64]]) -> bytes:
    """Encode a scene, a function of time in 0..1 to RGB (H,W,3) in 0..1, as an MP4 file."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(SECONDS * FPS):
            picture = (scene(i / (SECONDS * FPS)).clip(0, 1) * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return y / HEIGHT, x / HEIGHT


def _waves(time: float) -> NDArray[np.float64]:
    y, x = _grid()
    waves = [np.sin(40 * (x * a + y * (1 - a)) + 12 * time * a) for a in (0.2, 0.5, 0.9)]
    return 0.5 + 0.5 * np.stack(waves, -1)


def _tiles(time: float) -> NDArray[np.float64]:
    y, x = _grid()
    row, column = np.floor((y - time) * 8).astype(int), np.floor(x * 8).astype(int)
    # A fixed hash of the tile's place gives its colour: noise that moves with the tile.
    return np.stack([np.sin(row * a + column * b) ** 2 for a, b in ((9, 4), (5, 7), (2, 8))], -1)


def _disc(time: float) -> NDArray[np.float64]:
    y, x = _grid()
    inside = np.hypot(y - 0.5, x - 0.3 - 0.7 * time) < 0.1 + 0.3 * time
    return np.where(inside[..., None], np.stack([y, 1 - y, x / 2], -1), np.stack([x, x, y], -1) / 2)
