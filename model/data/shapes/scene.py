"""A clip before it is drawn: everything that was left to chance, decided."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.shapes.backgrounds import Picture, draw_background
from model.data.shapes.places import draw_rest
from model.data.shapes.tracks import Motion, draw_motion
from model.data.shapes.vocabulary import COLOURS, OUTLINES, REST, TURNS, Subject

Colour = NDArray[np.float32]
ASPECTS = ((1, 1), (4, 3), (16, 9), (3, 4), (9, 16), (3, 2), (21, 9))
ASPECT_SHARES = (0.34, 0.22, 0.22, 0.06, 0.06, 0.07, 0.03)
RATES = (8, 10, 12, 15, 20, 24, 25, 30, 50, 60)
LEAST_CONTRAST = 95.0
BACKGROUND_TRIES = 5
MARKED_SHARE = 0.5  # of things at rest that may have a bar, circles always
SMALL, LARGE = 0.11, 0.2  # radius, as part of the short side, up to and from which one says so


@dataclass(frozen=True)
class SceneOptions:
    """The range that scenes are drawn from. Short sides in pixels, durations in seconds."""

    short_side: tuple[int, int] = (64, 256)
    duration_s: tuple[float, float] = (1.0, 6.0)
    most_frames: int = 48
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Figure:
    """One shape: RGB colours on the 0-255 scale; a stroke, a bar that shows turns, or neither.

    Widths are in units of the radius.
    """

    outline: str
    colour: Colour
    stroke: Colour | None = None
    stroke_width: float = 0.0
    bar: Colour | None = None
    bar_width: float = 0.28
    softness: float = 1.0
    shine: float = 0.0


@dataclass(frozen=True)
class Distractor:
    """A figure that lies still, at a position from the centre in units of the short side."""

    figure: Figure
    position: tuple[float, float]
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """All that `draw_frames` needs, and what the clip is called by."""

    subject: Subject
    also: str | None
    sizes: tuple[str, ...]
    size: tuple[int, int]
    rate: int
    frames: int
    motion: Motion
    figure: Figure
    background: Picture
    distractors: tuple[Distractor, ...] = ()
    margin: int = 0
    pan: tuple[float, float] = (0.0, 0.0)
    shake: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    seed: int = field(default=0)
    rest_phrases: tuple[str, ...] = ()


def draw_scene(
    rng: np.random.Generator, subject: Subject, options: SceneOptions | None = None
) -> Scene:
    """Draw a scene that shows the subject; the same state of `rng` gives the same scene."""
    options = options or SceneOptions()
    size = _picture_size(rng, options.short_side)
    rate, frames = _timing(rng, options)
    short = min(size)
    room = (size[1] / short / 2, size[0] / short / 2)
    also: str | None = None
    rest_phrases: tuple[str, ...] = ()
    turns = subject.motion in TURNS
    if subject.motion == REST:
        turns = rng.random() < MARKED_SHARE
        motion, rest_phrases = draw_rest(rng, subject.outline, marked=turns)
    else:
        motion, also = draw_motion(rng, subject.motion, subject.outline, room)
    figure = _figure(rng, subject, turns)
    margin = int(np.ceil(short * 0.08))
    pan = rng.uniform(-0.05, 0.05, 2) * short if rng.random() < 0.12 else np.zeros(2)
    return Scene(
        subject,
        also,
        _size_words(subject, motion),
        size,
        rate,
        frames,
        motion,
        figure,
        _background(rng, size, margin, motion, figure, options),
        _distractors(rng, motion) if rng.random() < 0.2 else (),
        margin,
        (float(pan[0]), float(pan[1])),
        float(rng.uniform(0.002, 0.012) * short) if rng.random() < 0.2 else 0.0,
        float(rng.uniform(1, 14)) if rng.random() < 0.35 else 0.0,
        float(rng.uniform(0.003, 0.012) * short) if rng.random() < 0.2 else 0.0,
        int(rng.integers(1 << 40)),
        rest_phrases,
    )


def named_colour(rng: np.random.Generator, name: str) -> Colour:
    """Return an RGB colour, 0-255, that goes by this name."""
    hue, saturation, value = (float(rng.uniform(*bounds)) for bounds in COLOURS[name])
    rgb = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
    return np.array(rgb, np.float32) * 255


def _picture_size(rng: np.random.Generator, bounds: tuple[int, int]) -> tuple[int, int]:
    """Draw an even height and width, small ones more often than large ones."""
    short = float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))
    width, height = ASPECTS[int(rng.choice(len(ASPECTS), p=ASPECT_SHARES))]
    scale = short / min(width, height)
    return round(height * scale / 2) * 2, round(width * scale / 2) * 2


def _timing(rng: np.random.Generator, options: SceneOptions) -> tuple[int, int]:
    """Draw the frames a second and their number; long clips get the lower rates."""
    rate = int(rng.choice(RATES))
    frames = round(float(rng.uniform(*options.duration_s)) * rate)
    return rate, int(np.clip(frames, 8, options.most_frames))


def _size_words(subject: Subject, motion: Motion) -> tuple[str, ...]:
    if subject.motion in ("growing", "shrinking"):
        return ()
    if motion.radii[0] <= SMALL:
        return ("small",)
    return ("large", "big") if motion.radii[0] >= LARGE else ()


def _figure(rng: np.random.Generator, subject: Subject, turns: bool) -> Figure:
    colour = named_colour(rng, subject.colour)
    bright = float(colour.mean()) > 110
    against = np.full(3, 20.0 if bright else 235.0, np.float32)
    kind, stroke, width, bar, bar_width = rng.random(), None, 0.0, None, 0.0
    if kind < 0.18:
        stroke, width = against, float(rng.uniform(0.05, 0.14))
    if turns and (subject.outline == "circle" or rng.random() < 0.2):
        bar = against if rng.random() < 0.7 else 255 - colour
        bar_width = float(rng.uniform(0.28, 0.7))
    softness = float(rng.uniform(0.6, 2.5)) if rng.random() < 0.4 else 1.0
    shine = float(rng.uniform(-0.25, 0.25)) if rng.random() < 0.2 else 0.0
    return Figure(subject.outline, colour, stroke, width, bar, bar_width, softness, shine)


def _background(
    rng: np.random.Generator,
    size: tuple[int, int],
    margin: int,
    motion: Motion,
    figure: Figure,
    options: SceneOptions,
) -> Picture:
    """Choose one that the shape stands out from; the best of a few."""
    padded = (size[0] + 2 * margin, size[1] + 2 * margin)
    best, most = None, -1.0
    for _ in range(BACKGROUND_TRIES):
        picture = draw_background(rng, padded, options.pictures)
        contrast = _contrast(picture, size, margin, motion, figure)
        if contrast > most:
            best, most = picture, contrast
        if most >= LEAST_CONTRAST:
            break
    assert best is not None
    return best


def _contrast(
    picture: Picture, size: tuple[int, int], margin: int, motion: Motion, figure: Figure
) -> float:
    """Measure how far the colours on the way of the shape are from its own: a low quantile."""
    track = motion.at(np.linspace(0, 1, 7))
    short = min(size)
    x = np.clip(track.position[:, 0] * short + size[1] / 2 + margin, 0, picture.shape[1] - 1)
    y = np.clip(track.position[:, 1] * short + size[0] / 2 + margin, 0, picture.shape[0] - 1)
    reach = max(int(short * 0.06), 1)
    around = [(dx, dy) for dx in (-reach, 0, reach) for dy in (-reach, 0, reach)]
    colours = [
        picture[
            np.clip(y.astype(int) + dy, 0, picture.shape[0] - 1),
            np.clip(x.astype(int) + dx, 0, picture.shape[1] - 1),
        ]
        for dx, dy in around
    ]
    apart = np.linalg.norm(np.concatenate(colours).astype(np.float32) - figure.colour, axis=1)
    return float(np.quantile(apart, 0.3))


def _distractors(rng: np.random.Generator, motion: Motion) -> tuple[Distractor, ...]:
    """Draw small still shapes off the way of the moving one."""
    track = motion.at(np.linspace(0, 1, 15))
    distractors = []
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(0.03, 0.08))
        position = rng.uniform(-0.48, 0.48, 2)
        away = np.linalg.norm(track.position - position, axis=1) - 1.2 * track.radius - radius
        if away.min() < 0:
            continue
        colour = named_colour(rng, str(rng.choice(list(COLOURS))))
        figure = Figure(str(rng.choice(OUTLINES)), colour)
        angle = float(rng.uniform(-3, 3))
        distractors.append(
            Distractor(figure, (float(position[0]), float(position[1])), radius, angle)
        )
    return tuple(distractors)
