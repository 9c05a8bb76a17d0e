"""One thread through which every use of the runtime goes, in order.

One call at a time uses all cores; two at once would only take them from each other.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class InferenceThread:
    """Runs calls one after another. A call whose waiter has left is dropped unless it runs.

    `waiting` counts the calls that wait or run, `failing` those that failed since one went well.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._running_since: float | None = None
        self.waiting = 0
        self.failing = 0

    @property
    def running_s(self) -> float:
        """How long the present call has been running."""
        since = self._running_since
        return 0.0 if since is None else time.perf_counter() - since

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what the call returns, once all calls before it have run."""

        def run() -> Result:
            self._running_since = time.perf_counter()
            self.failing += 1  # until it has gone well
            try:
                result = call()
            finally:
                self._running_since = None
            self.failing = 0
            return result

        context = contextvars.copy_context()
        self.waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(context.run, run))
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
