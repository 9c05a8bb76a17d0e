"""How fast this machine decodes: learned from the clips it decodes, by codec, depth, size and rule.

Pictures of one kind cost about as much each, so what a plan costs is known before it is carried
out. Only the order of magnitude matters: it decides between two rules whose costs lie far apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from model.inputs.sampling import FrameRule
from model.inputs.work import Work

# Pixels a second of one core, before anything is known: 4K H.264 and HEVC on server processors. A
# key frame, which refers to no other, has several times the bytes.
PRIOR = {FrameRule.EXACT: 200e6, FrameRule.KEYFRAMES: 50e6}
FASTEST, SLOWEST = 20e9, 500e3
# A clip moves the estimate by this share of the way, so that a single odd one moves it little.
STEP = 0.2
# Fewer pictures, of fewer pixels than eight key frames of 4K, are measured together with all that
# surrounds decoding.
ENOUGH_PICTURES, ENOUGH_PIXELS = 64, 64e6
MOST_KINDS = 64

Rates = Mapping[str, float]


def kind_of(work: Work) -> str:
    """Return the name of pictures that cost about the same: sizes within a factor of two."""
    return f"{work.codec[:40]}_{work.depth}_{work.pixels.bit_length()}_{work.rule}"


def estimated_s(work: Work, rates: Rates) -> float:
    """Return seconds of processor time that the work will take, by rates in pixels a second."""
    return work.pixels * work.pictures / rates.get(kind_of(work), PRIOR[work.rule])


class LearnedRates:
    """The rates of the kinds that were met last; the parent's, as workers come and go."""

    def __init__(self) -> None:
        self._rates: OrderedDict[str, float] = OrderedDict()

    @property
    def known(self) -> dict[str, float]:
        """Pixels a second by kind."""
        return dict(self._rates)

    def learn(self, work: Work) -> None:
        """Note what decoding took.

        A few small pictures bear the cost of opening and converting: such a clip says that it is
        at least this, never that it is less.
        """
        if not work.pictures or not work.pixels or not work.seconds:
            return
        kind = kind_of(work)
        rate = self._rates.pop(kind, PRIOR[work.rule])
        pixels = work.pixels * work.pictures
        is_enough = work.pictures >= ENOUGH_PICTURES or pixels >= ENOUGH_PIXELS
        measured = min(max(pixels / work.seconds, SLOWEST), FASTEST)
        if measured > rate or is_enough:
            rate = rate ** (1 - STEP) * measured**STEP
        self._rates[kind] = rate
        if len(self._rates) > MOST_KINDS:
            self._rates.popitem(last=False)
