"""What labels tell apart that augmentation must leave alone: sides and colours."""

from __future__ import annotations

import re
from collections.abc import Iterable

SIDES = frozenset(
    (
        *("left", "right", "leftward", "leftwards", "rightward", "rightwards", "lefthand"),
        *("righthand", "clockwise", "counterclockwise", "anticlockwise"),
    )
)
COLOURS = frozenset(
    (
        *("red", "green", "blue", "yellow", "orange", "purple", "violet", "pink", "brown", "black"),
        *("white", "grey", "gray", "cyan", "magenta", "turquoise", "teal", "beige", "golden"),
        *("silver", "maroon", "crimson", "scarlet", "indigo", "blond", "blonde", "greyscale"),
        *("grayscale", "colour", "color", "coloured", "colored", "colours", "colors"),
    )
)
WORD = re.compile(r"[^\W\d_]+")


def naming(texts: Iterable[str], words: frozenset[str]) -> list[str]:
    """Return the texts in which one of these words stands."""
    return [text for text in texts if words.intersection(WORD.findall(text.lower()))]
