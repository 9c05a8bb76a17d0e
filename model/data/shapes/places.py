"""Shapes at rest: where in the picture they lie or how they are turned, and how one says so.

A network that is to tell where something moves has to know first where it is, and to tell which
way something turns, how it stands.
"""

from __future__ import annotations

import numpy as np

from model.data.shapes.tracks import LEAST_TURNING, SYMMETRY, Motion, draw_looks

ACROSS = {-1: "on the left", 0: "", 1: "on the right"}
DOWN = {-1: "at the top", 0: "", 1: "at the bottom"}
CORNERS = {
    (-1, -1): "in the top left corner",
    (1, -1): "in the top right corner",
    (-1, 1): "in the bottom left corner",
    (1, 1): "in the bottom right corner",
}
MIDDLE = "in the middle"
# By quarters of the angle after which an outline looks the same again, clockwise.
STANDS = ("upright", "tilted to the right", "upside down", "tilted to the left")
ON_CORNER = "standing on its corner"
NEAR_STAND = 0.09  # how far from its stand, in units of that angle
NEAR_MIDDLE, FAR = 0.1, (0.22, 0.42)  # from the centre, in units of the short side


def draw_rest(rng: np.random.Generator) -> tuple[Motion, tuple[str, ...]]:
    """A shape that stays where it is, and every phrase that is true of its place."""
    column, row = (int(n) for n in rng.integers(-1, 2, size=2))
    radius, tilt = draw_looks(rng)
    x, y = (_offset(rng, step) for step in (column, row))
    motion = Motion((x, y), (x, y), "even", 1, (radius, radius), (tilt, tilt))
    return motion, place_words(column, row)


def draw_stand(rng: np.random.Generator, outline: str) -> tuple[Motion, tuple[str, ...]]:
    """A shape that stays as it is turned, anywhere, and the phrase that is true of that."""
    quarter = int(rng.integers(4))
    radius = max(draw_looks(rng)[0], LEAST_TURNING)
    x, y = rng.uniform(-FAR[1], FAR[1], size=2)
    away = rng.uniform(-NEAR_STAND, NEAR_STAND)
    angle = (quarter / 4 + away) * SYMMETRY[outline]
    place = (float(x), float(y))
    words = ON_CORNER if (outline, quarter) == ("square", 2) else STANDS[quarter]
    return Motion(place, place, "even", 1, (radius, radius), (angle, angle)), (words,)


def place_words(column: int, row: int) -> tuple[str, ...]:
    """The phrases for a cell of the picture, each part from -1 to 1; the most telling first."""
    if (column, row) == (0, 0):
        return (MIDDLE,)
    told = (CORNERS.get((column, row), ""), ACROSS[column], DOWN[row])
    return tuple(words for words in told if words)


def _offset(rng: np.random.Generator, step: int) -> float:
    if step == 0:
        return float(rng.uniform(-NEAR_MIDDLE, NEAR_MIDDLE))
    return float(step * rng.uniform(*FAR))
