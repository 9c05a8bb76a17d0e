"""What there is to see: colours, shapes and motions, and which combinations are kept unseen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

# Hue in degrees, saturation and value from 0 to 1: the range that people call by that name.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-9, 7), (0.78, 1.0), (0.65, 1.0)),
    "green": ((98, 142), (0.6, 1.0), (0.45, 1.0)),
    "blue": ((212, 242), (0.68, 1.0), (0.6, 1.0)),
    "yellow": ((50, 60), (0.75, 1.0), (0.88, 1.0)),
    "orange": ((22, 38), (0.85, 1.0), (0.9, 1.0)),
    "purple": ((272, 301), (0.55, 1.0), (0.45, 0.92)),
    "white": ((0, 360), (0.0, 0.05), (0.92, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.1)),
}
OUTLINES = ("circle", "square", "triangle", "star")
MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "growing",
    "shrinking",
    "clockwise",
    "anticlockwise",
    "speeding up",
    "slowing down",
)
# Nothing moves: for clips whose labels tell the place and the turn.
REST = "at rest"
OPPOSITES = (
    ("left", "right"),
    ("up", "down"),
    ("growing", "shrinking"),
    ("clockwise", "anticlockwise"),
    ("speeding up", "slowing down"),
)
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
TURNS = {"clockwise": 1, "anticlockwise": -1}
HELD_OUT_EVERY = 6


@dataclass(frozen=True, order=True)
class Subject:
    """What the label of a clip tells: a colour, a shape and a motion."""

    colour: str
    outline: str
    motion: str


def is_held_out(subject: Subject) -> bool:
    """Return whether this combination is kept for testing: about one in six.

    Every two of its three parts occur together among those that are trained on.
    """
    code = (
        COLOUR_NAMES.index(subject.colour)
        + 2 * OUTLINES.index(subject.outline)
        + 5 * MOTIONS.index(subject.motion)
    )
    return code % HELD_OUT_EVERY == 0


def may_be_trained_on(subject: Subject) -> bool:
    """Tell whether it is not held out; nor, of turns, the same with the other sense.

    Where red stars only ever turn one way, whoever sees no sense yet learns it by heart, and is
    wrong about every red star that turns the other way.
    """
    if is_held_out(subject):
        return False
    senses = (Subject(subject.colour, subject.outline, sense) for sense in TURNS)
    return subject.motion not in TURNS or not any(map(is_held_out, senses))


def all_subjects() -> tuple[Subject, ...]:
    """Return every combination, in a fixed order."""
    return tuple(Subject(*parts) for parts in product(COLOUR_NAMES, OUTLINES, MOTIONS))


COLOUR_NAMES = tuple(COLOURS)
