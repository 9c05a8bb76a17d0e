"""A second way to draw moving shapes, which shares nothing with ours but the words.

OpenCV polygons, pure or muddy colours, positions in pixels, other sizes and frame rates, easing
and pauses, backgrounds that are plain, graded, or frames of a real video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

RGB = {
    "red": [(255, 0, 0), (214, 39, 40), (200, 16, 46)],
    "green": [(0, 255, 0), (0, 128, 0), (44, 160, 44)],
    "blue": [(0, 0, 255), (31, 80, 200), (0, 70, 255)],
    "yellow": [(255, 255, 0), (255, 221, 0), (240, 230, 30)],
    "orange": [(255, 165, 0), (255, 127, 14), (255, 140, 0)],
    "purple": [(128, 0, 128), (148, 60, 200), (160, 32, 240)],
    "white": [(255, 255, 255), (245, 245, 245)],
    "black": [(0, 0, 0), (15, 15, 15)],
}
SHAPES = ("circle", "square", "triangle", "star")
MOVES = {
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}
MOTIONS = (*MOVES, "growing", "shrinking", "rotating clockwise", "rotating anticlockwise")
SIZES = ((320, 240), (640, 360), (480, 480), (240, 320), (854, 480), (128, 128), (400, 224))


def corners(shape: str, radius: float, angle: float) -> np.ndarray:
    """Corner points around the origin, degrees clockwise as seen."""
    if shape == "square":
        turns, radii = np.arange(4) * 90 + 45, np.full(4, radius * 1.2)
    elif shape == "triangle":
        turns, radii = np.arange(3) * 120 - 90, np.full(3, radius * 1.2)
    else:
        turns, radii = np.arange(10) * 36 - 90, np.where(np.arange(10) % 2, radius * 0.45, radius)
    turned = np.deg2rad(turns + angle)
    return np.stack([np.cos(turned) * radii, np.sin(turned) * radii], axis=1)


def paint(
    frame: np.ndarray, shape: str, colour: Sequence[int], x: float, y: float, r: float, angle: float
) -> None:
    """Draw in place, with OpenCV's own antialiasing and 4 bits of sub-pixel places."""
    if shape == "circle":
        centre = (round(x * 16), round(y * 16))
        cv2.circle(frame, centre, round(r * 16), tuple(colour), -1, cv2.LINE_AA, 4)
        return
    points = np.round((corners(shape, r, angle) + np.array([x, y])) * 16).astype(np.int32)
    cv2.fillPoly(frame, [points.reshape(-1, 1, 2)], tuple(colour), cv2.LINE_AA, 4)


def background(
    rng: np.random.Generator, size: tuple[int, int], kind: str, stills: Sequence[np.ndarray]
) -> np.ndarray:
    """Plain grey levels, a vertical ramp, a tiled floor, or a still of a real video."""
    width, height = size
    if kind == "still" and len(stills):
        still = stills[int(rng.integers(len(stills)))]
        return cv2.resize(still, size, interpolation=cv2.INTER_AREA)
    if kind == "ramp":
        top, bottom = rng.integers(30, 226, (2, 3))
        ramp = np.linspace(0, 1, height)[:, None, None]
        return np.broadcast_to(top + (bottom - top) * ramp, (height, width, 3)).astype(np.uint8)
    if kind == "tiles":
        y, x = np.mgrid[0:height, 0:width] // max(height // 8, 1)
        shades = rng.integers(60, 200, 2)
        return np.repeat(shades[(x + y) % 2].astype(np.uint8)[:, :, None], 3, axis=2)
    level = int(rng.choice([0, 30, 90, 128, 200, 255]))
    return np.full((height, width, 3), level, np.uint8)


def render(
    rng: np.random.Generator,
    colour: str,
    shape: str,
    motion: str,
    frames: int,
    size: tuple[int, int],
    kind: str,
    stills: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """The frames of one clip; the shape stays inside the square in the middle."""
    width, height = size
    side, rgb = min(size), RGB[colour][int(rng.integers(len(RGB[colour])))]
    back = background(rng, size, kind, stills)
    while np.abs(back[height // 4 : -height // 4].astype(int) - rgb).sum(axis=2).mean() < 130:
        back = background(rng, size, "plain", stills)
    r0 = rng.uniform(0.1, 0.24) * side
    ease = rng.random() < 0.3
    reach, shift = rng.uniform(0.18, 0.33) * side, rng.uniform(-0.2, 0.2) * side
    turn = {"circle": 0, "square": 200, "triangle": 300, "star": 220}[shape] * rng.uniform(0.5, 1)
    out = []
    for i in range(frames):
        u = i / (frames - 1)
        u = (1 - math.cos(math.pi * u)) / 2 if ease else u
        x, y, r, angle = width / 2, height / 2, r0, 0.0
        if motion in MOVES:
            dx, dy = MOVES[motion]
            x += dx * reach * (2 * u - 1) + (shift if dy else 0)
            y += dy * reach * (2 * u - 1) + (shift if dx else 0)
        elif motion in ("growing", "shrinking"):
            u = u if motion == "growing" else 1 - u
            r = side * (0.06 + 0.3 * u)
        else:
            r = max(r0, 0.16 * side)
            angle = turn * u * (1 if motion == "rotating clockwise" else -1)
        frame = back.copy()
        paint(frame, shape, rgb, x, y, r, angle)
        out.append(frame)
    return out


def stills_of(videos: Sequence[Path], every: int = 40) -> list[np.ndarray]:
    """Some frames of real videos, RGB."""
    found = []
    for video in videos:
        with av.open(str(video)) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if i % every == 0:
                    found.append(frame.to_ndarray(format="rgb24"))
    return found


def write(path: Path, frames: Sequence[np.ndarray], rate: int, codec: str) -> None:
    """Encode with the encoder's own defaults."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def draw_clips(
    folder: Path, count: int, seed: int, stills: Sequence[np.ndarray] = ()
) -> list[tuple[Path, tuple[str, str, str]]]:
    """Write clips; each with its colour, shape and motion."""
    rng = np.random.default_rng(seed)
    kinds = ["plain", "ramp", "tiles"] + ["still"] * (3 if len(stills) else 0)
    made = []
    for i in range(count):
        colour, shape = str(rng.choice(list(RGB))), str(rng.choice(SHAPES))
        motions = MOTIONS[:6] if shape == "circle" else MOTIONS
        motion = str(rng.choice(motions))
        size = SIZES[int(rng.integers(len(SIZES)))]
        rate = int(rng.choice([10, 15, 24, 30]))
        frames = int(rate * rng.uniform(1.2, 3))
        clip = render(rng, colour, shape, motion, frames, size, str(rng.choice(kinds)), stills)
        suffix, codec = [(".mp4", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx")][
            int(rng.choice(3, p=[0.6, 0.2, 0.2]))
        ]
        path = folder / f"{i:04d}{suffix}"
        write(path, clip, rate, codec)
        made.append((path, (colour, shape, motion)))
    return made
