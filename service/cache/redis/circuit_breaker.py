"""A switch in front of something that may be away: off at the first failure, on by itself.

While it is off nobody waits for the thing. One task in the background asks it, with growing pauses,
until it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class CircuitBreaker:
    """`closed` means in use. `probe` returns why the thing cannot be used, empty when it can."""

    def __init__(
        self, probe: Callable[[], Awaitable[str]], on_change: Callable[[bool, str], None]
    ) -> None:
        self._probe, self._on_change = probe, on_change
        self.closed = False
        self.reason = "not asked yet"
        self.asked = asyncio.Event()
        self._recovering: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin off, and ask at once."""
        self._recover(0.0)

    def trip(self, reason: str) -> None:
        """Switch off and begin to ask; nothing to do where that has happened."""
        if self.closed:
            self.closed, self.reason = False, reason
            self._on_change(False, reason)
            self._recover(FIRST_PAUSE_S)

    async def stop(self) -> None:
        """Ask no more."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)

    def _recover(self, pause_s: float) -> None:
        self._recovering = asyncio.create_task(self._until_back(pause_s))

    async def _until_back(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            reason = await self._probe()
            changed = reason != self.reason
            self.closed, self.reason = not reason, reason
            self.asked.set()
            if changed:
                self._on_change(self.closed, reason)
            if self.closed:
                return
            pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
