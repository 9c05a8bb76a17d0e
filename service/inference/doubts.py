"""What of a request is answered, but hardly meant: sentences for the `warnings` of its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.inputs.clip import Clip, VideoWarning

SEPARATORS = re.compile(r"[,;|\uff0c\uff1b\u3001]")
# What stands before a name in lists and tables, or around it: "- cat", "1. cat", "0,cat", '"cat"'.
MARKS = re.compile(r"[-*\u2022\u2013]\s|\(?\d+[.):,;|]|([\"'\u201c]).*[\"'\u201d]$")
BLACK = 16  # of 255; the darkest that video with headroom can mean


def label_doubts(labels: Sequence[str]) -> tuple[str, ...]:
    """Say so where there is nothing to compare: a softmax over one label is 1 whatever it is. Also
    where labels still have the marks of the list that they come from; its first line may be a
    header.
    """
    marked = sum(MARKS.match(label) is not None for label in labels)
    if marked > 1 and marked >= len(labels) - 1:
        return (
            "every label begins with the number or mark of a list, or stands in quotes, and the "
            "network reads these too: send the names alone",
        )
    if len(labels) != 1:
        return ()
    listed = ", and it looks like a list" if SEPARATORS.search(labels[0]) else ""
    return (
        f"there is one label{listed}: its score is 1 whatever it is, look at similarity instead; "
        "for several, repeat the field labels, write one a line, or send one JSON array",
    )


def clip_doubts(clip: Clip) -> tuple[VideoWarning, ...]:
    """Say so where the network has seen no motion, or nothing at all."""
    doubts = []
    if clip.info.frames == 1:
        doubts.append(VideoWarning.ONE_FRAME)
    frames = clip.frames.reshape(-1, *clip.frames.shape[-3:])
    if all(frame.max() <= BLACK for frame in frames):  # most end at the first
        doubts.append(VideoWarning.BLACK)
    return tuple(doubts)
