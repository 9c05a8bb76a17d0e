"""How much of a bounded thing each client may hold."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping


class Full(Exception):
    """A client may hold no more now.

    Attributes:
        held: How many the client holds.
        own: Whether its own share is used up, while there are free ones for others.
    """

    def __init__(self, held: int, *, own: bool) -> None:
        super().__init__("the client's share is used up" if own else "all are taken")
        self.held, self.own = held, own


class Shares:
    """Count what each client holds of `total` places, and decide at once who may have more.

    A client alone may hold half of them; where n clients hold some, total // (n + 1) each. So there
    is room for one who holds none yet, however much the others ask for. What a client holds already
    is not taken away when its share becomes smaller.

    Who holds none may have what he asks for, if it is free. Of places taken one at a time that is
    one. Where they are bytes, of which one question takes many, it may be more than a share, up to
    all of them (it could never be answered else); and what is more than all is taken where nobody
    holds any. What he takes beside it must fit in his share.

    Of what is served in turn (`in_turn`) nobody is refused because the others have all of it: his
    turn comes before most of theirs. Only his own share bounds what he may have waiting.

    Args:
        total: Places there are.
        most: Places that one client may hold at most, where that is fewer than its share.
        in_turn: Whether those who hold some are served in turn.
    """

    def __init__(self, total: int, most: int | None = None, *, in_turn: bool = False) -> None:
        self.total, self.held = total, 0  # places there are, and taken by all clients together
        self._in_turn = in_turn
        self._most = total if most is None else most
        self._held: Counter[str] = Counter()
        self._changed = time.monotonic()

    @property
    def clients(self) -> int:
        """Clients who hold a place."""
        return len(self._held)

    @property
    def stuck_s(self) -> float:
        """Seconds since all places are taken and none has been given back; 0 where one is free."""
        return time.monotonic() - self._changed if self.held >= self.total else 0.0

    def held_by(self, client: str) -> int:
        """Return how many places a client holds."""
        return self._held[client]

    def share_of(self, client: str) -> int:
        """Return how many places a client may hold now."""
        clients = len(self._held) + (client not in self._held)
        return min(max(1, self.total // (clients + 1)), self._most)

    def ahead_of(self, client: str) -> Mapping[str, int]:
        """Return how many of whom are served before a client's next, where clients have turns."""
        own = self._held[client]
        ahead = {other: min(held, own + 1) for other, held in self._held.items()}
        return ahead | ({client: own} if own else {})

    def by_client(self) -> Mapping[str, int]:
        """Return how many places each client holds that holds any."""
        return dict(self._held)

    def check(self, client: str, count: int = 1) -> None:
        """Raise Full where the client may not take so many places now."""
        held = self._held[client]
        if self.held and self.held + count > self.total and not self._in_turn:
            raise Full(held, own=False)
        if held and held + count > self.share_of(client):
            raise Full(held, own=True)

    def take(self, client: str, count: int = 1) -> None:
        """Take places until they are given back.

        Raises:
            Full: The client may not take so many now.
        """
        self.check(client, count)
        self._held[client] += count
        self.held += count
        self._changed = time.monotonic()

    def give_back(self, client: str, count: int = 1) -> None:
        """Give back places that were taken."""
        self._held[client] -= count
        self.held -= count
        if not self._held[client]:
            del self._held[client]
        self._changed = time.monotonic()

    @contextlib.contextmanager
    def hold(self, client: str, count: int = 1) -> Iterator[None]:
        """Hold places for the length of a block; raises Full as `take`."""
        self.take(client, count)
        try:
            yield
        finally:
            self.give_back(client, count)
