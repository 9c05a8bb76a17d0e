"""How often a client gets what costs little, such as a refusal, without waiting for it."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_CLIENTS = 4096  # that are remembered; one who is forgotten begins anew


class Pace:
    """Say how long each client's next turn is put off: some at once, the others at even distances.

    Turns are never refused, and put off by no more than `longest_s`: whoever has so many under way
    that they come faster then gets them faster. A client is one number here.

    Args:
        per_s: Turns a second; as many are given at once to a client who had none for a second.
        longest_s: Most seconds by which a turn is put off.
        clock: Says what time it is, in seconds.
    """

    def __init__(
        self, per_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._distance_s, self._longest_s, self._clock = 1 / per_s, longest_s, clock
        # When the next turn of each is due, who had one longest ago first. It lies in the past by
        # as many distances as turns may be had at once.
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def wait_s(self, client: str) -> float:
        """Take the client's next turn; return in how many seconds it is."""
        now = self._clock()
        due = max(self._due.pop(client, -math.inf), now + self._distance_s - 1)
        due = min(due, now + self._longest_s)
        self._due[client] = due + self._distance_s
        if len(self._due) > MOST_CLIENTS:
            self._due.popitem(last=False)
        return max(0.0, due - now)
