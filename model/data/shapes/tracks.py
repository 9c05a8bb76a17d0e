"""Where a shape is, how large and how turned, over the course of a clip.

Lengths are in units of the short side of the picture, angles in radians, clockwise as seen. Time
runs from 0 at the first frame to 1 at the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.shapes.vocabulary import DIRECTIONS, TURNS

Values = NDArray[np.float64]
# The angle after which an outline looks the same again.
SYMMETRY = {"circle": 2 * math.pi, "square": math.pi / 2, "triangle": 2 * math.pi / 3,
            "star": 2 * math.pi / 5}  # fmt: skip
LEAST_TURNING = 0.11  # radius below which one cannot see how a shape is turned
# Of turns: short ones, and among the others those that begin upright, as most programs draw them.
SHORT_SHARE, UPRIGHT_SHARE = 0.7, 0.67
SHORT = (0.35, 0.94)  # in units of the angle after which an outline looks the same
LOOKS = 8  # frames that a network may take of a clip: turns must stay readable at that rate


@dataclass(frozen=True)
class Track:
    """A motion: position (N,2), x and y from the centre of the picture; radius (N,), angle (N,)."""

    position: Values
    radius: Values
    angle: Values


@dataclass(frozen=True)
class Motion:
    """The numbers that make a motion; `at` says where things are at given times."""

    start: tuple[float, float]
    end: tuple[float, float]
    ease: str
    power: float
    radii: tuple[float, float]
    angles: tuple[float, float]

    def at(self, times: Values) -> Track:
        """Return the track at these times (N,), each from 0 to 1."""
        done = self._eased(times)[:, None]
        position = np.array(self.start) * (1 - done) + np.array(self.end) * done
        small, large = self.radii
        radius = small * (large / small) ** times
        if self.ease == "even":
            radius = small + (large - small) * times
        return Track(position, radius, self.angles[0] + (self.angles[1] - self.angles[0]) * times)

    def _eased(self, times: Values) -> Values:
        if self.ease == "gaining":
            return times**self.power
        if self.ease == "losing":
            return 1 - (1 - times) ** self.power
        if self.ease == "soft":
            return times + (3 * times**2 - 2 * times**3 - times) * self.power
        return times


def draw_motion(
    rng: np.random.Generator, motion: str, outline: str, room: tuple[float, float]
) -> tuple[Motion, str | None]:
    """Draw a motion by its name, and the direction of one that changes its speed.

    `room` is half the width and height of the picture.
    """
    radius, tilt = draw_looks(rng)
    if motion in DIRECTIONS:
        ease = str(rng.choice(["even", "soft"], p=[0.8, 0.2]))
        return _travel(rng, motion, ease, rng.uniform(0.3, 0.8), radius, tilt, room), None
    if motion in ("speeding up", "slowing down"):
        way = str(rng.choice(list(DIRECTIONS)))
        ease = "gaining" if motion == "speeding up" else "losing"
        moves = _travel(rng, way, ease, rng.uniform(1.9, 3.6), radius, tilt, room, least=0.55)
        return moves, way
    if motion in TURNS:
        radius = max(radius, LEAST_TURNING)
        position = _position(rng, radius, room)
        angles = _turned(rng, outline, tilt)
        if motion == "anticlockwise":
            angles = (-angles[0], -angles[1])
        return Motion(position, _near(rng, position), "even", 1, (radius, radius), angles), None
    large = rng.uniform(0.2, 0.48)
    radii = (max(large / rng.uniform(1.8, 6), 0.03), large)
    position = _position(rng, large * 0.6, room)
    radii = radii if motion == "growing" else radii[::-1]
    ease = str(rng.choice(["even", "geometric"]))
    return Motion(position, _near(rng, position), ease, 1, radii, (tilt, tilt)), None


def draw_looks(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a radius and an angle."""
    return float(np.exp(rng.uniform(math.log(0.085), math.log(0.32)))), _tilt(rng)


def _travel(
    rng: np.random.Generator,
    way: str,
    ease: str,
    power: float,
    radius: float,
    tilt: float,
    room: tuple[float, float],
    least: float = 0.3,
) -> Motion:
    """Draw a way from side to side; what the network crops is the square in the middle."""
    step = DIRECTIONS[way]
    axis = 0 if step[0] else 1
    reach = room[axis] if rng.random() < 0.35 else min(room[axis], 0.5)
    reach += rng.uniform(-0.6, 0.3) * radius
    length = rng.uniform(least, 1.0) * 2 * reach
    first = rng.uniform(-reach, reach - length) if rng.random() < 0.5 else -length / 2
    across = rng.uniform(-1, 1) * max(min(room[1 - axis], 0.5) - 0.8 * radius, 0.0)
    if rng.random() < 0.25:
        across *= 0.2
    skew = rng.uniform(-0.06, 0.06) * length
    sign = step[axis]
    start, end = [0.0, 0.0], [0.0, 0.0]
    start[axis], end[axis] = sign * first, sign * (first + length)
    start[1 - axis], end[1 - axis] = across - skew, across + skew
    spin = rng.uniform(-0.3, 0.3) if rng.random() < 0.15 else 0.0
    ends = ((start[0], start[1]), (end[0], end[1]))
    return Motion(*ends, ease, power, (radius, radius), (tilt, tilt + spin))


def _tilt(rng: np.random.Generator) -> float:
    """Draw a tilt: mostly upright or nearly so, now and then any angle."""
    kind = rng.random()
    if kind < 0.55:
        return 0.0
    return float(rng.uniform(-0.3, 0.3) if kind < 0.85 else rng.uniform(-math.pi, math.pi))


def _turned(rng: np.random.Generator, outline: str, tilt: float) -> tuple[float, float]:
    """Return the first and last angle of a turn clockwise.

    Most are short: no frame of them looks like one of another angle, so the frames tell the sense
    once they are in order, as they do for something that moves. The steps of the others do not pass
    for the other way, at the rate a network looks.
    """
    symmetry = SYMMETRY[outline]
    if rng.random() < SHORT_SHARE:
        turn = rng.uniform(*SHORT)
        first = rng.uniform(-0.47, 0.47 - turn)
        return float(first * symmetry), float((first + turn) * symmetry)
    first = 0.0 if rng.random() < UPRIGHT_SHARE else tilt
    step = min(rng.uniform(0.13, 0.42) * symmetry, rng.uniform(0.12, 1.1))
    return first, float(first + step * LOOKS)


def _position(
    rng: np.random.Generator, radius: float, room: tuple[float, float]
) -> tuple[float, float]:
    spread = [max(min(side, 0.5) - radius, 0.02) for side in room]
    x, y = rng.uniform(-1, 1, 2) * spread * (0.3 if rng.random() < 0.3 else 1.0)
    return float(x), float(y)


def _near(rng: np.random.Generator, position: tuple[float, float]) -> tuple[float, float]:
    """Draw where something ends that mostly stays: there, or a little aside."""
    shift = rng.uniform(-0.05, 0.05, 2) if rng.random() < 0.4 else (0.0, 0.0)
    return position[0] + float(shift[0]), position[1] + float(shift[1])
