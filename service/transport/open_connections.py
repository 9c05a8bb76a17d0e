"""Who holds the connections there are, so that no address can hold them all."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from service.access.client import client_of

RESERVE = 8  # connections beyond the most, on which only the health addresses are answered
STUCK_AFTER_S = 10.0  # all connections taken, none gives way and none is closed


class Held(Protocol):
    """One open connection."""

    @property
    def busy(self) -> bool:
        """Whether a request is being received in its body, or answered."""

    @property
    def stalled(self) -> bool:
        """Whether its answer lies ready, and the client does not take it."""

    def give_way(self) -> None:
        """Close, for somebody else."""


class OpenConnections:
    """Count connections by peer address; where one is too many, an idle one gives way.

    One address may have half of them. Where it has, its own idle connection that was used longest
    ago gives way to its next; where all are taken, that of whoever has most. Where that client has
    none that is idle, one whose answer he does not read gives way to whoever has fewer: what is
    being worked on never does. The reserve is dealt out in the same way.

    Args:
        most: Connections there may be.
        exempt: Which addresses may have more than half: proxies, behind which there are many.
    """

    def __init__(self, most: int, exempt: Callable[[str], bool]) -> None:
        self._all, self._reserve = _Places(most), _Places(RESERVE)
        self._exempt = exempt
        self._places_of: dict[Held, _Places] = {}
        self._changed = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether nobody else can get one: none gives way, and none has been closed for long."""
        if not self._all.full or time.monotonic() - self._changed <= STUCK_AFTER_S:
            return False
        return self._all.fixed

    def enter(self, connection: Held, address: str) -> bool | None:
        """Count a new connection.

        Returns:
            True where it may ask anything, None where only how the server is, False where it must
            be closed.
        """
        client, exempt = client_of(address), self._exempt(address)
        for places, may in ((self._all, True), (self._reserve, None)):
            if places.enter(connection, client, exempt=exempt):
                self._places_of[connection] = places
                if may:
                    self._changed = time.monotonic()
                return may
        return False

    def used(self, connection: Held) -> None:
        """Note that something was read from a connection."""
        places = self._places_of.get(connection)
        if places is not None:
            places.used(connection)

    def leave(self, connection: Held) -> None:
        """Count a connection no more."""
        places = self._places_of.pop(connection, None)
        if places is not None:
            places.leave(connection)
        if not self._all.full:
            self._changed = time.monotonic()


class _Places:
    """So many connections, and whose they are."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Those of each client, what was used longest ago first: many come and go in a second, and
        # to look through all of them for each would hold up everybody.
        self._of: dict[str, OrderedDict[Held, None]] = {}
        self._client_of: dict[Held, str] = {}

    @property
    def full(self) -> bool:
        """Whether all are taken."""
        return len(self._client_of) >= self._most

    @property
    def fixed(self) -> bool:
        """Whether whoever has most has none that could give way."""
        return all(held.busy and not held.stalled for held in max(self._of.values(), key=len))

    def enter(self, connection: Held, client: str, *, exempt: bool) -> bool:
        """Take a connection in, if there is room or some can be made."""
        own = len(self._of.get(client, ()))
        among_few = 2 * (own + 1) > max(self._most, 2) and not exempt
        if among_few or self.full:
            greediest = client if among_few else max(self._of, key=lambda c: len(self._of[c]))
            fewer = own + 1 < len(self._of.get(greediest, ()))
            if not self._make_room(greediest, stalled_too=fewer):
                return False
        self._of.setdefault(client, OrderedDict())[connection] = None
        self._client_of[connection] = client
        return True

    def used(self, connection: Held) -> None:
        """Note that something was read from a connection."""
        client = self._client_of.get(connection)
        if client is not None:
            self._of[client].move_to_end(connection)

    def leave(self, connection: Held) -> None:
        """Count a connection no more."""
        client = self._client_of.pop(connection, None)
        if client is not None:
            del self._of[client][connection]
            if not self._of[client]:
                del self._of[client]

    def _make_room(self, client: str, *, stalled_too: bool) -> bool:
        """Close the client's connection that has been idle longest; False where none gives way."""
        held_by = self._of.get(client) or OrderedDict()
        oldest = next((held for held in held_by if not held.busy), None)
        if oldest is None and stalled_too:
            oldest = next((held for held in held_by if held.stalled), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.give_way()
        return True
