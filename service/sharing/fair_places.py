"""A number of places that clients take in turn, for work that must not have all of something."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from service.sharing.fair_queue import FairQueue


class FairPlaces:
    """Places on one event loop; who waits for one is served in turn by client."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def place(self, client: str = "") -> AsyncGenerator[None, None]:
        """Hold a place for the length of the context, once it is the client's turn."""
        await self.take(client)
        try:
            yield
        finally:
            self.give_back()

    async def take(self, client: str = "") -> None:
        """Take a place until it is given back, once it is the client's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(client, turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.remove(client, turn)
            if turn.done() and not turn.cancelled():  # handed out at this very moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give back a place that was taken."""
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (taken := self._waiting.take()):
            if not taken[1].done():
                self._free -= 1
                taken[1].set_result(None)
