"""Who holds the connections there are, so that no address can hold them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from service.access.client import client_of

RESERVE = 8  # connections beyond the most, on which only the health addresses are answered


class Held(Protocol):
    """One open connection."""

    @property
    def idle_since(self) -> float | None:
        """A `time.monotonic()`, None while a request is being answered."""

    def give_way(self) -> None:
        """Close, for somebody else."""


class OpenConnections:
    """Count connections by peer address; where one is too many, an idle one gives way.

    One address may have half of them. Where it has, its own idle connection that was used longest
    ago gives way to its next; where all are taken, that of whoever has most.

    Args:
        most: Connections there may be.
        exempt: Which addresses may have more than half: proxies, behind which there are many.
    """

    def __init__(self, most: int, exempt: Callable[[str], bool]) -> None:
        self._most, self._exempt = most, exempt
        self._of: dict[str, set[Held]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def enter(self, connection: Held, address: str) -> bool | None:
        """Count a new connection.

        Returns:
            True where it may ask anything, None where only how the server is, False where it must
            be closed.
        """
        client = client_of(address)
        own = len(self._of.get(client, ()))
        among_few = 2 * (own + 1) > max(self._most, 2) and not self._exempt(address)
        may: bool | None = True
        if among_few or len(self) >= self._most:
            greediest = client if among_few else max(self._of, key=lambda c: len(self._of[c]))
            if not self._make_room(greediest):
                may = None if len(self) < self._most + RESERVE else False
        self._of.setdefault(client, set()).add(connection)
        return may

    def leave(self, connection: Held, address: str) -> None:
        """Count a connection no more."""
        client = client_of(address)
        held = self._of.get(client, set())
        held.discard(connection)
        if not held:
            self._of.pop(client, None)

    def _make_room(self, client: str) -> bool:
        """Close the client's connection that has been idle longest; False where none is idle."""
        idle = [(c.idle_since, c) for c in self._of[client] if c.idle_since is not None]
        if not idle:
            return False
        _, oldest = min(idle, key=lambda pair: pair[0])
        self._of[client].discard(oldest)
        oldest.give_way()
        return True
