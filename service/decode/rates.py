"""How fast this machine decodes: learned from the clips it decodes, by codec, depth and size.

Pictures of one kind cost about as much each, so what a plan costs is known before it is carried
out. Only the order of magnitude matters: it decides between two rules whose costs lie far apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from model.inputs.sampling import FrameRule
from model.inputs.work import Work

# Pixels a second of one core, before anything is known: 4K H.264 and HEVC on server processors.
PRIOR = 200e6
FASTEST, SLOWEST = 100 * PRIOR, PRIOR / 100
# A clip moves the estimate by this share of the way, so that a single odd one moves it little.
STEP = 0.2
# Fewer pictures are measured together with all that surrounds decoding.
ENOUGH_PICTURES = 64
MOST_KINDS = 64

Rates = Mapping[str, float]


def kind_of(work: Work) -> str:
    """Return the name of pictures that cost about the same: sizes within a factor of two."""
    return f"{work.codec[:40]}_{work.depth}_{work.pixels.bit_length()}"


def estimated_s(work: Work, rates: Rates) -> float:
    """Return seconds of processor time that the work will take, by rates in pixels a second."""
    return work.pixels * work.pictures / rates.get(kind_of(work), PRIOR)


class LearnedRates:
    """The rates of the kinds that were met last; the parent's, as workers come and go."""

    def __init__(self) -> None:
        self._rates: OrderedDict[str, float] = OrderedDict()

    @property
    def known(self) -> dict[str, float]:
        """Pixels a second by kind."""
        return dict(self._rates)

    def learn(self, work: Work, rule: FrameRule) -> None:
        """Note what decoding took.

        Key frames are the slowest pictures, and a few pictures bear the cost of opening and
        converting: such a clip says that the rate is at least this, never that it is less.
        """
        if not work.pictures or not work.pixels or not work.seconds:
            return
        kind = kind_of(work)
        rate = self._rates.pop(kind, PRIOR)
        measured = min(max(work.pixels * work.pictures / work.seconds, SLOWEST), FASTEST)
        is_bound = rule is FrameRule.KEYFRAMES or work.pictures < ENOUGH_PICTURES
        if measured > rate or not is_bound:
            rate = rate ** (1 - STEP) * measured**STEP
        self._rates[kind] = rate
        if len(self._rates) > MOST_KINDS:
            self._rates.popitem(last=False)
