"""What a pool has done so far, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.decode.ending import Ending


@dataclass
class PoolStats:
    """Counters since the start; they only grow.

    The sample clips with which the service tries itself count as well. `busy_s` is seconds of
    workers at work.
    """

    jobs: int = 0
    decoded: int = 0
    refused: int = 0
    retried: int = 0
    dropped: int = 0
    put_off: int = 0
    started: int = 0
    ended: Counter[Ending] = field(default_factory=Counter)
    busy_s: float = 0.0
