"""Random numbers of a run: one stream for each purpose, so that none repeats another's draws."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are drawn for. A number, once published, stays with its purpose."""

    ORDER = 0
    """Order of the clips of an epoch."""
    FRAMES = 1
    """Which frames of a clip are read."""
    AUGMENTATION = 2
    """What is done to its pixels."""
    REPLACEMENT = 3
    """Which clip stands in for a broken one."""
    CLIP_WORDING = 4
    """Which of its wordings a clip goes by."""
    LABEL_WORDING = 5
    """Which wording stands for each label in an update."""
    EXTRA_CAPTIONS = 6
    """Captions that stand beside those of the batch."""
    TORCH = 7
    """The seed of torch's own generator, for stochastic depth."""
    MIXING = 8
    """Mixup and CutMix."""


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Make the generator of one draw.

    Streams with another number, or keys of another length, never coincide: numpy hashes a spawn
    key apart from the seed, where it would pad a plain tuple of numbers with zeros.

    Args:
        seed: of the run, 0 or more.
        stream: what is drawn.
        key: which draw of the stream it is, for example epoch and position; each 0 or more.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))
