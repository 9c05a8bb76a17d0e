"""What of a request is answered, but hardly meant: sentences for the `warnings` of its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.inputs import Clip

SEPARATORS = re.compile(r"[,;|]")
BLACK = 16  # of 255; the darkest that video with headroom can mean


def label_doubts(labels: Sequence[str]) -> tuple[str, ...]:
    """Say so where there is nothing to compare: a softmax over one label is 1 whatever it is."""
    if len(labels) != 1:
        return ()
    listed = ", and it looks like a list" if SEPARATORS.search(labels[0]) else ""
    return (
        f"there is one label{listed}: its score is 1 whatever it is, look at similarity instead; "
        "for several, repeat the field labels, write one a line, or send one JSON array",
    )


def clip_doubts(clip: Clip) -> tuple[str, ...]:
    """Say so where the network has seen no motion, or nothing at all."""
    doubts = []
    if clip.info.frames == 1:
        doubts.append("the clip has one frame: there is no motion to be seen in it")
    if clip.frames.max() <= BLACK:
        doubts.append("every frame that was looked at is black")
    return tuple(doubts)
