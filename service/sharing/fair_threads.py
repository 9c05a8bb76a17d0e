"""Threads that serve clients in turn."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.sharing.costs import Charge, free
from service.sharing.fair_queue import FairQueue

Result = TypeVar("Result")


@dataclass(eq=False)
class _Call:
    call: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            self.result.set_result(self.call())
        except BaseException as error:
            self.result.set_exception(error)


class FairThreads:
    """Runs calls on `count` threads, those of each client in order and the clients in turn.

    A call whose waiter has left is dropped unless it runs. `charge` is told what each has taken.
    """

    def __init__(self, count: int, name: str, charge: Charge = free) -> None:
        self._charge = charge
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._waiting: FairQueue[_Call] = FairQueue()
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], Result], client: str = "") -> Result:
        """Return what the call returns, once it has had its turn."""
        made = _Call(self._in_context(lambda: self._charged(call, client)))
        with self._lock:
            self._waiting.put(client, made)
        try:
            # Every call has a turn to its credit; whose it is shows when the turn comes.
            self._threads.submit(self._take_turn)
        except RuntimeError:  # closed
            with self._lock:
                self._waiting.remove(client, made)
            raise
        result: Result = await asyncio.wrap_future(made.result)
        return result

    def close(self) -> None:
        """Drop what waits and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while taken := self._next():
            taken.result.cancel()

    def _in_context(self, call: Callable[[], Result]) -> Callable[[], Result]:
        context = contextvars.copy_context()
        return lambda: context.run(call)

    def _charged(self, call: Callable[[], Result], client: str) -> Result:
        began = time.perf_counter()
        try:
            return call()
        finally:
            self._charge(client, time.perf_counter() - began)

    def _take_turn(self) -> None:
        if taken := self._next():
            taken.run()

    def _next(self) -> _Call | None:
        with self._lock:
            taken = self._waiting.take()
        return None if taken is None else taken[1]
