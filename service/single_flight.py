"""One computation for everybody who asks for the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Runs `make` once for all that wait for a key; it is cancelled when the last one leaves."""

    def __init__(self) -> None:
        self._running: dict[Key, tuple[asyncio.Task[Value], set[object]]] = {}

    async def run(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        """The value of `make()`, ours or that of whoever asked first."""
        if key not in self._running:
            task = asyncio.ensure_future(make())
            self._running[key] = (task, set())
            task.add_done_callback(lambda _: self._running.pop(key, None))
        task, waiting = self._running[key]
        me = object()
        waiting.add(me)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.discard(me)
            if not waiting and not task.done():
                self._running.pop(key, None)
                task.cancel()
