"""Shapes at rest: where in the picture they lie, and how one says so.

A network that is to tell where something moves has to know first where it is.
"""

from __future__ import annotations

import numpy as np

from model.data.shapes.tracks import Motion, draw_looks

ACROSS = {-1: "on the left", 0: "", 1: "on the right"}
DOWN = {-1: "at the top", 0: "", 1: "at the bottom"}
CORNERS = {
    (-1, -1): "in the top left corner",
    (1, -1): "in the top right corner",
    (-1, 1): "in the bottom left corner",
    (1, 1): "in the bottom right corner",
}
MIDDLE = "in the middle"
NEAR_MIDDLE, FAR = 0.1, (0.22, 0.42)  # from the centre, in units of the short side


def draw_rest(rng: np.random.Generator) -> tuple[Motion, tuple[str, ...]]:
    """A shape that stays where it is, and every phrase that is true of its place."""
    column, row = (int(n) for n in rng.integers(-1, 2, size=2))
    radius, tilt = draw_looks(rng)
    x, y = (_offset(rng, step) for step in (column, row))
    motion = Motion((x, y), (x, y), "even", 1, (radius, radius), (tilt, tilt))
    return motion, place_words(column, row)


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
