"""One computation for everybody who asks for the same things at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(eq=False)
class _Flight(Generic[Key, Value]):
    task: asyncio.Task[Mapping[Key, Value]]
    keys: frozenset[Key]
    waiting: int = 0


class SingleFlight(Generic[Key, Value]):
    """Runs one task for all that wait for its keys; the last of them to leave cancels it."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Key, Value]] = {}

    async def run(
        self,
        keys: Collection[Key],
        start: Callable[[list[Key]], asyncio.Task[Mapping[Key, Value]]],
    ) -> dict[Key, Value]:
        """Return the values of keys: of tasks that compute them already, and of one for the rest.

        Args:
            keys: What is asked for, each once.
            start: Starts the task for keys that nobody computes; called before anything is awaited.
                What its task uses must outlive this caller: others may wait on when he has left.

        Raises:
            Exception: What a task raised that was started for nothing but keys asked for here. Keys
                of a wider task that failed are computed again: its failure may be its other keys'.
        """
        results: dict[Key, Value] = {}
        while missing := [key for key in keys if key not in results]:
            flights = self._join(missing, start)
            try:
                for flight in flights:
                    try:
                        values = await asyncio.shield(flight.task)
                    except Exception:
                        if flight.keys.issubset(missing):
                            raise
                    else:
                        results |= {key: values[key] for key in missing if key in flight.keys}
            finally:
                for flight in flights:
                    self._leave(flight)
        return results

    def _join(
        self, keys: list[Key], start: Callable[[list[Key]], asyncio.Task[Mapping[Key, Value]]]
    ) -> list[_Flight[Key, Value]]:
        """Wait for the flights of all keys, from now on; start one for those that have none."""
        rest = [key for key in keys if not self._is_computed(key)]
        if rest:
            flight = _Flight(start(rest), frozenset(rest))
            self._flights |= dict.fromkeys(rest, flight)
            flight.task.add_done_callback(lambda task: self._landed(flight))
        flights = list(dict.fromkeys(self._flights[key] for key in keys))
        for flight in flights:
            flight.waiting += 1
        return flights

    def _is_computed(self, key: Key) -> bool:
        """Tell whether a task is at this key. One that has failed stays listed for a moment."""
        flight = self._flights.get(key)
        return flight is not None and not _has_failed(flight.task)

    def _leave(self, flight: _Flight[Key, Value]) -> None:
        flight.waiting -= 1
        if not flight.waiting and not flight.task.done():
            self._forget(flight)
            flight.task.cancel()

    def _landed(self, flight: _Flight[Key, Value]) -> None:
        self._forget(flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen: whoever waited has it, and else it is nobody's business

    def _forget(self, flight: _Flight[Key, Value]) -> None:
        """Take a flight off the list, but not one that was started for a key after it."""
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
