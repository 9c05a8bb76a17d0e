"""One thread through which every use of the runtime goes, the clients in turn.

One call at a time uses all cores; two at once would only take them from each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from service.sharing.costs import Charge, free
from service.sharing.fair_threads import FairThreads

Result = TypeVar("Result")


class InferenceThread:
    """Runs calls one after another. A call whose waiter has left is dropped unless it runs.

    `waiting` counts the calls that wait or run, `failing` those that failed since one went well.
    `charge` is for whoever knows whose work a call does: it may be that of several clients.
    """

    def __init__(self, charge: Charge = free) -> None:
        self.charge = charge
        self._thread = FairThreads(1, "inference")
        self._running_since: float | None = None
        self.waiting = 0
        self.failing = 0

    @property
    def running_s(self) -> float:
        """How long the present call has been running."""
        since = self._running_since
        return 0.0 if since is None else time.perf_counter() - since

    async def run(
        self, call: Callable[[], Result], client: str = "", *, first: bool = False
    ) -> Result:
        """Return what the call returns, once it is the client's turn; `first` goes before all."""

        def run() -> Result:
            self._running_since = time.perf_counter()
            self.failing += 1  # until it has gone well
            try:
                result = call()
            finally:
                self._running_since = None
            self.failing = 0
            return result

        self.waiting += 1
        try:
            return await self._thread.run(run, client, first=first)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._thread.close()
