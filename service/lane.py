"""The inference lane: one thread through which every use of the runtime goes, in order.

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


class Lane:
    """Runs calls one after another. A call whose waiter has left is dropped unless it runs."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Calls that wait or run."""
        return self._waiting

    async def run(self, call: Callable[[], Result]) -> tuple[Result, float, float]:
        """The result, the seconds it waited and the seconds it ran."""
        asked = time.perf_counter()

        def timed() -> tuple[Result, float, float]:
            started = time.perf_counter()
            result = call()
            return result, started - asked, time.perf_counter() - started

        context = contextvars.copy_context()
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(context.run, timed))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
