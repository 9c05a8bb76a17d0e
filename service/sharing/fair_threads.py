"""Threads that serve clients in turn."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import Counter
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

    A client alone may have half of the threads, and one in any case: calls cannot be interrupted.
    One whose waiter has left is dropped unless it runs. `charge` is told what each has taken.
    """

    def __init__(self, count: int, name: str, charge: Charge = free) -> None:
        self._charge = charge
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._share = max(1, count // 2)
        self._running: Counter[str] = Counter()
        self._waiting: FairQueue[_Call] = FairQueue()
        self._lock = threading.Lock()

    async def run(
        self, call: Callable[[], Result], client: str = "", *, first: bool = False
    ) -> Result:
        """Return what the call returns, once it has had its turn; `first` goes before all."""
        made = _Call(self._in_context(lambda: self._charged(call, client)))
        with self._lock:
            self._waiting.put(client, made, first=first)
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
        self._drop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._drop()  # what came in between

    def _drop(self) -> None:
        with self._lock:
            while taken := self._waiting.take():
                taken[1].result.cancel()

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
        # Not one turn alone: a turn for which the client had too many running is made up for here.
        while taken := self._next():
            client, call = taken
            try:
                call.run()
            finally:
                with self._lock:
                    self._running -= Counter((client,))

    def _next(self) -> tuple[str, _Call] | None:
        with self._lock:
            taken = self._waiting.take(lambda client, _: self._running[client] < self._share)
            if taken is not None:
                self._running[taken[0]] += 1
        return taken
