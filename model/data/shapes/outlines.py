"""The outlines as signed distances, so that edges are smooth at any size without supersampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]
Values = NDArray[np.floating[Any]]
TIPS = {"square": 4, "triangle": 3, "star": 5}
# Distance of the inner corners from the centre, relative to the tips; None: straight sides.
WAIST = {"square": None, "triangle": None, "star": 0.42}
# Corner radius relative to the circle's, so that outlines of one size look equally large.
REACH = {"circle": 1.0, "square": 1.2, "triangle": 1.3, "star": 1.3, "cross": 1.3, "ring": 1.05,
         "crescent": 1.1, "bar": 1.5, "pair of dots": 1.3}  # fmt: skip


def distance(outline: str, x: Grid, y: Grid) -> Grid:
    """Return the distance to the outline in units of the radius, negative inside; y runs downwards.

    Triangle and star stand on their base, the square lies on a side.
    """
    if outline == "circle":
        return np.hypot(x, y) - np.float32(1)
    if outline in NEW:
        return NEW[outline](x, y).astype(np.float32)
    tips, reach = TIPS[outline], REACH[outline]
    sector = math.pi / tips
    waist = WAIST[outline] or math.cos(sector)
    turned = sector if outline == "square" else 0.0
    angle = np.arctan2(x, -y) + np.float32(turned + sector)
    folded = np.abs(np.mod(angle, np.float32(2 * sector)) - np.float32(sector))
    length = np.hypot(x, y)
    # In the folded sector the outline is one straight edge from a tip to an inner corner.
    corner = (waist * math.cos(sector), waist * math.sin(sector))
    edge = (corner[0] - 1.0, corner[1])
    norm = math.hypot(*edge)
    along, up = length * np.cos(folded) - np.float32(reach), length * np.sin(folded)
    return (along * np.float32(edge[1] / norm) - up * np.float32(edge[0] / norm)).astype(np.float32)


def _box(x: Grid, y: Grid, width: float, height: float) -> Values:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


# Outlines that the demo is not trained on, for few-shot training.
NEW: dict[str, Callable[[Grid, Grid], Values]] = {
    "cross": lambda x, y: np.minimum(_box(x, y, 1.2, 0.38), _box(x, y, 0.38, 1.2)),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.78) - 0.24,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1.05, 0.85 - np.hypot(x - 0.5, y)),
    "bar": lambda x, y: _box(x, y, 1.4, 0.3),
    "pair of dots": lambda x, y: np.hypot(np.abs(x) - 0.72, y) - 0.5,
}
