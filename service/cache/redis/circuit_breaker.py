"""A circuit breaker: off at the first failure, on by itself once what is behind it answers.

While it is open nobody waits for what is behind it. One task in the background asks it, with
growing pauses, until it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# A reason that time does not mend: a Redis Cluster does not take keys of different slots at once.
CLUSTER = "cluster"
NOT_ASKED = "not asked yet"


class CircuitState(StrEnum):
    """Closed lets calls through. Open does not, for now; given up not until the next start."""

    CLOSED = "closed"
    OPEN = "open"
    GIVEN_UP = "given up"


class CircuitBreaker:
    """Stands in front of something that may be away.

    Args:
        probe: Asks it; returns None when it can be used, else why not.
        on_change: Is told of each change: whether it can be used, and why not.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[str | None]],
        on_change: Callable[[bool, str], None],
    ) -> None:
        self._probe, self._on_change = probe, on_change
        self.state = CircuitState.OPEN
        self.reason: str | None = NOT_ASKED
        self.asked = asyncio.Event()
        self._recovering: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether calls go through."""
        return self.state is CircuitState.CLOSED

    def start(self) -> None:
        """Begin open, and ask at once."""
        self._recover(0.0)

    def trip(self, reason: str) -> None:
        """Open and begin to ask; nothing to do where that has happened."""
        if self.closed:
            self._set(reason)
            if self.state is CircuitState.OPEN:
                self._recover(FIRST_PAUSE_S)

    async def stop(self) -> None:
        """Ask no more."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)

    def _set(self, reason: str | None) -> None:
        changed, self.reason = reason != self.reason, reason
        if reason is None:
            self.state = CircuitState.CLOSED
        else:
            self.state = CircuitState.GIVEN_UP if reason == CLUSTER else CircuitState.OPEN
        if changed:
            self._on_change(self.closed, reason or "")

    def _recover(self, pause_s: float) -> None:
        self._recovering = asyncio.create_task(self._until_back(pause_s))

    async def _until_back(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            self._set(await self._probe())
            self.asked.set()
            if self.state is not CircuitState.OPEN:
                return
            pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
