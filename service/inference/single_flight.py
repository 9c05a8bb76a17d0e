"""One computation for everybody who asks for the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass
class _Flight(Generic[Value]):
    task: asyncio.Task[Value]
    waiting: int = 0


class SingleFlight(Generic[Key, Value]):
    """Runs one task for all that wait for a key; it is cancelled when the last of them leaves."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Value]] = {}

    async def run(self, key: Key, start: Callable[[], asyncio.Task[Value]]) -> Value:
        """What the task gives or raises: ours, or that of whoever asked first.

        `start` is called, before anything is awaited, by the first who asks. What its task uses
        must outlive that caller: others may wait on when the first has left.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(start())
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight.task)
                flight.task.cancel()

    def _landed(self, key: Key, task: asyncio.Task[Value]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; when nobody did, it is nobody's business

    def _forget(self, key: Key, task: asyncio.Task[Value]) -> None:
        """Take the task off the list, but not one that was started for the key after it."""
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
