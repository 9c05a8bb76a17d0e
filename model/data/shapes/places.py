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
STANDING_SHARE = 0.75  # of things that are turned one of these ways; the others anyhow
NEAR_MIDDLE, FAR = 0.1, (0.22, 0.42)  # from the centre, in units of the short side


def draw_rest(
    rng: np.random.Generator, outline: str, *, marked: bool
) -> tuple[Motion, tuple[str, ...]]:
    """Draw a shape that stays as it is, and every phrase that is true of its place and its turn.

    `marked`: it has a bar, so that a circle too is seen to be turned.
    """
    column, row = (int(n) for n in rng.integers(-1, 2, size=2))
    radius, _ = draw_looks(rng)
    x, y = (_offset(rng, step) for step in (column, row))
    turned = float(rng.integers(4) / 4 + rng.uniform(-NEAR_STAND, NEAR_STAND))
    if rng.random() > STANDING_SHARE:
        turned = float(rng.uniform(0, 1))
    angle = turned * SYMMETRY[outline]
    motion = Motion((x, y), (x, y), "even", 1, (radius, radius), (angle, angle))
    seen = radius >= LEAST_TURNING and (outline != "circle" or marked)
    return motion, (*place_words(column, row), *(stand_words(outline, turned) if seen else ()))


def stand_words(outline: str, turned: float) -> tuple[str, ...]:
    """Return words for a turn, in units of the angle after which the outline looks the same; none
    where it is between two."""
    quarter = round(4 * turned)
    if abs(turned - quarter / 4) > NEAR_STAND:
        return ()
    on_corner = (outline, quarter % 4) == ("square", 2)
    return (ON_CORNER if on_corner else STANDS[quarter % 4],)


def place_words(column: int, row: int) -> tuple[str, ...]:
    """Return phrases for a cell of the picture, each part from -1 to 1; the most telling first."""
    if (column, row) == (0, 0):
        return (MIDDLE,)
    told = (CORNERS.get((column, row), ""), ACROSS[column], DOWN[row])
    return tuple(words for words in told if words)


def _offset(rng: np.random.Generator, step: int) -> float:
    if step == 0:
        return float(rng.uniform(-NEAR_MIDDLE, NEAR_MIDDLE))
    return float(step * rng.uniform(*FAR))
