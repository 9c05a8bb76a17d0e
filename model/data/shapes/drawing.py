"""Scenes to frames. Only the square around a shape is touched in each frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model.data.shapes.backgrounds import Picture
from model.data.shapes.outlines import REACH, distance
from model.data.shapes.scene import Colour, Figure, Scene

GRAINS = 1 << 16


def draw_frames(scene: Scene, times: NDArray[np.float64] | None = None) -> Iterator[Picture]:
    """Draw frames (h,w,3) uint8 at these times, 0 to 1; by default at every frame of the clip."""
    if times is None:
        times = np.linspace(0, 1, scene.frames)
    track = scene.motion.at(times)
    rng = np.random.default_rng(scene.seed)
    shake = np.round(rng.normal(0, scene.shake, (len(times), 2))) if scene.shake else None
    grain = rng.normal(0, scene.noise, GRAINS).astype(np.int16) if scene.noise else None
    height, width = scene.size
    short, middle = min(scene.size), np.array([width / 2, height / 2])
    still = _with_distractors(scene)
    for i, time in enumerate(times):
        jolt = shake[i] if shake is not None else np.zeros(2)
        frame = _window(still, scene, jolt + np.array(scene.pan) * (time - 0.5))
        x, y = track.position[i] * short + middle - np.clip(jolt, -scene.margin, scene.margin)
        _paint(frame, scene.figure, x, y, track.radius[i] * short, track.angle[i])
        yield _degraded(frame, scene.blur, grain, rng)


def _with_distractors(scene: Scene) -> Picture:
    if not scene.distractors:
        return scene.background
    picture, short = scene.background.copy(), min(scene.size)
    for d in scene.distractors:
        x = d.position[0] * short + picture.shape[1] / 2
        y = d.position[1] * short + picture.shape[0] / 2
        _paint(picture, d.figure, x, y, d.radius * short, d.angle)
    return picture


def _window(background: Picture, scene: Scene, shift: NDArray[np.float64]) -> Picture:
    """Return the part of the larger background that the camera sees."""
    left, top = np.clip(np.round(shift) + scene.margin, 0, 2 * scene.margin).astype(int)
    return background[top : top + scene.size[0], left : left + scene.size[1]].copy()


def _paint(frame: Picture, figure: Figure, x: float, y: float, radius: float, angle: float) -> None:
    """Blend a figure into a frame; places and radius in pixels, the angle clockwise."""
    reach = radius * REACH[figure.outline] + figure.softness + 1
    left, right = max(int(x - reach), 0), min(int(x + reach) + 2, frame.shape[1])
    top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, frame.shape[0])
    if left >= right or top >= bottom:
        return
    dx = (np.arange(left, right) + 0.5 - x)[None, :] / radius
    dy = (np.arange(top, bottom) + 0.5 - y)[:, None] / radius
    u = (dx * np.cos(angle) + dy * np.sin(angle)).astype(np.float32)
    v = (dy * np.cos(angle) - dx * np.sin(angle)).astype(np.float32)
    away = distance(figure.outline, u, v)
    alpha = np.clip(0.5 - away * np.float32(radius / figure.softness), 0, 1)[:, :, None]
    part = frame[top:bottom, left:right].astype(np.float32)
    part += (_filling(figure, u, v, away) - part) * alpha
    frame[top:bottom, left:right] = part


def _filling(
    figure: Figure, u: NDArray[np.float32], v: NDArray[np.float32], away: NDArray[np.float32]
) -> Colour:
    """Return the colour of every pixel of a figure: (h,w,3)."""
    colour = np.broadcast_to(figure.colour, (*away.shape, 3))
    if figure.shine:
        light = 1 + np.float32(figure.shine) * np.clip(u + v, -1, 1)[:, :, None]
        colour = np.minimum(colour * light, 255)
    if figure.stroke is not None:
        at_rim = (away > -figure.stroke_width)[:, :, None]
        colour = np.where(at_rim, figure.stroke, colour)
    if figure.bar is not None:
        on_bar = ((np.abs(u) < figure.bar_width / 2) & (v < 0.1) & (away < -0.02))[:, :, None]
        colour = np.where(on_bar, figure.bar, colour)
    return colour


def _degraded(
    frame: Picture, blur: float, grain: NDArray[np.int16] | None, rng: np.random.Generator
) -> Picture:
    if blur:
        frame = np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(blur)))
    if grain is None:
        return frame
    # One pool of noise, begun at another place in each row, is as good as fresh noise.
    height, width = frame.shape[:2]
    starts = rng.integers(0, GRAINS - 3 * width, height)
    noise = grain[starts[:, None] + np.arange(3 * width)].reshape(height, width, 3)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)
