"""What each client's requests have taken lately."""

from __future__ import annotations

from collections import OrderedDict

NEWEST_WEIGHS = 0.1  # in a running mean, once it has ten values
MOST_CLIENTS = 4096  # that are remembered; one who is forgotten begins anew


class Lately:
    """Running means of seconds, one for each client and one over all."""

    def __init__(self) -> None:
        self._all = _Mean()
        self._of: OrderedDict[str, _Mean] = OrderedDict()  # who came longest ago first

    def note(self, client: str, seconds: float) -> None:
        """Note what one request of a client has taken."""
        own = self._of.setdefault(client, _Mean())
        self._of.move_to_end(client)
        for mean in (own, self._all):
            mean.add(seconds)
        if len(self._of) > MOST_CLIENTS:
            self._of.popitem(last=False)

    def known(self, client: str) -> float:
        """Return what a request of this client takes; 0 where it has had none."""
        own = self._of.get(client)
        return own.seconds if own else 0.0

    def expected(self, client: str) -> float:
        """Return what a request of this client takes, as far as anybody can tell."""
        return self._of.get(client, self._all).seconds


class _Mean:
    def __init__(self) -> None:
        self.seconds, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        self._count += 1
        self.seconds += max(NEWEST_WEIGHS, 1 / self._count) * (seconds - self.seconds)
