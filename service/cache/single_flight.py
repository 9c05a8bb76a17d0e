"""One computation for everybody who asks for the same things at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

PATIENCE_S = 0.5  # how long somebody waits for what is computed in another client's turn

Start = Callable[[list[Key]], "asyncio.Task[Mapping[Key, Value]]"]


@dataclass(eq=False)
class _Flight(Generic[Key, Value]):
    task: asyncio.Task[Mapping[Key, Value]]
    keys: frozenset[Key]
    client: str
    waiting: int = 0

    @property
    def failed(self) -> bool:
        """Whether it has ended without values."""
        task = self.task
        return task.done() and (task.cancelled() or task.exception() is not None)


class SingleFlight(Generic[Key, Value]):
    """Runs one task for all that wait for its keys; the last of them to leave cancels it.

    Who waits for another client's task computes for himself, too, after `patience_s`: that one may
    have asked for much, and have its turn late, or leave. Whichever is done first is the answer.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._flights: dict[Key, _Flight[Key, Value]] = {}

    async def run(
        self, keys: Collection[Key], start: Start[Key, Value], client: str = ""
    ) -> dict[Key, Value]:
        """Return the values of keys: of tasks that compute them already, and of one for the rest.

        Args:
            keys: What is asked for, each once.
            start: Starts the task for keys that nobody computes; called before anything is awaited.
                What its task uses must outlive this caller: others may wait on when he has left.
            client: Who asks, and in whose turn such a task is done.

        Raises:
            Exception: What a task raised that was started for nothing but keys asked for here. Keys
                of a wider task that failed are computed again: its failure may be its other keys'.
        """
        results: dict[Key, Value] = {}
        flights: list[_Flight[Key, Value]] = []
        patient = True
        try:
            while missing := [key for key in keys if key not in results]:
                self._join(flights, missing, start, client, patient)
                wait_s = None
                if patient and any(flight.client != client for flight in flights):
                    wait_s = self.patience_s
                done, _ = await asyncio.wait(
                    {flight.task for flight in flights},
                    timeout=wait_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                patient = patient and bool(done)
                for flight in [flight for flight in flights if flight.task in done]:
                    flights.remove(flight)
                    self._leave(flight)
                    own = flight.client == client
                    if own or patient or not flight.failed:
                        results |= _values(flight, missing)
                    patient = patient and (own or not flight.failed)
        finally:
            for flight in flights:
                self._leave(flight)
        return results

    def _join(
        self,
        flights: list[_Flight[Key, Value]],
        keys: list[Key],
        start: Start[Key, Value],
        client: str,
        patient: bool,
    ) -> None:
        """Wait for tasks that have all keys, from now on; start one for what is in none.

        Who is out of patience counts on tasks of his own alone.
        """

        def counts(flight: _Flight[Key, Value] | None) -> bool:
            return flight is not None and (patient or flight.client == client) and not flight.failed

        awaited = {key for flight in flights if counts(flight) for key in flight.keys}
        others = [key for key in keys if key not in awaited]
        rest = [key for key in others if not counts(self._flights.get(key))]
        if rest:
            begun = _Flight(start(rest), frozenset(rest), client)
            self._flights |= dict.fromkeys(rest, begun)
            begun.task.add_done_callback(lambda task: self._landed(begun))
        for flight in dict.fromkeys(self._flights[key] for key in others):
            flight.waiting += 1
            flights.append(flight)

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


def _values(flight: _Flight[Key, Value], keys: Collection[Key]) -> dict[Key, Value]:
    """Return what a task has computed of these keys; raise its failure if it had no others."""
    if flight.task.cancelled():
        return {}
    error = flight.task.exception()
    if error is None:
        values = flight.task.result()
        return {key: values[key] for key in keys if key in flight.keys}
    if flight.keys.issubset(keys):
        raise error
    return {}
