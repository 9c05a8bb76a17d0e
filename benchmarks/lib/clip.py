"""The clip that servers are asked about, in as many different files as needed.

A server that knows a file again skips decoding and encoding. To measure the work itself every
request must bring another file, with the same frames: a `free` box of MP4, which players pass
over, at the end.
"""

from __future__ import annotations

import itertools
import os

from benchmarks.lib.films import Film

WHAT = "10 s of 340x256, 30 frames/s, H.264"
CLIP = Film("H.264", 340, 256, 30, 250, 10, noise=12)
_numbers = itertools.count()


def ten_second_clip() -> bytes:
    """Encode a moving, noisy test picture, ten seconds of 340×256."""
    return CLIP.path().read_bytes()


def another_file(clip: bytes) -> bytes:
    """Write the same clip as a file that nobody has seen, in this process or before."""
    mark = os.urandom(8) + next(_numbers).to_bytes(8, "big")
    return clip + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark


def new_labels(count: int) -> list[str]:
    """Make labels of a few words that nobody has asked about."""
    first = next(_numbers)
    return [f"somebody doing thing {first} in way {n}" for n in range(count)]
