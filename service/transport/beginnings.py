"""Whose connection is read next, where several have sent something: the clients in turn.

Hundreds of requests a second, each of which costs the event loop a millisecond, keep it busy all
the time, whether or not somebody still waits for the answers. One is begun in each round of the
loop, so that one of another client is among the next few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.sharing.fair_queue import FairQueue


class Beginnings:
    """Calls back what begins, one in each round of the event loop."""

    def __init__(self) -> None:
        self._waiting: FairQueue[Callable[[], None]] = FairQueue()
        self._is_due = False

    def put(self, loop: asyncio.AbstractEventLoop, client: str, begin: Callable[[], None]) -> None:
        """Call `begin` when it is the client's turn: in the next round, where nobody waits."""
        self._waiting.put(client, begin)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        taken = self._waiting.take()
        self._is_due = taken is not None
        if taken is not None:
            loop.call_soon(self._next, loop)
            _, begin = taken
            begin()
