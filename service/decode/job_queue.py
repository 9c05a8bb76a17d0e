"""Who gets a worker, and when: first come first served, no longer than wanted."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from service.decode.errors import DecodeUnavailable
from service.decode.process import WorkerProcess
from service.decode.stats import PoolStats
from service.decode.supervisor import Crew

SHUT = "the decode workers are not running"


class Line:
    """Clips that wait for a worker of the crew.

    At most `size` have one at a time. While a slow clip is at work, a spare may serve those behind
    it: as many beyond `size` as there are slow ones, but no more than `spares`.
    """

    def __init__(self, crew: Crew, size: int, spares: int, stats: PoolStats) -> None:
        self._crew = crew
        self._size = size
        self._spares = spares
        self._stats = stats
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._slow: set[WorkerProcess] = set()
        self.running = 0
        crew.on_change = self.serve

    @property
    def waiting(self) -> int:
        """Clips that no worker has begun."""
        return len(self._waiting)

    async def acquire(self, deadline: float | None, *, first: bool = False) -> WorkerProcess:
        """A worker and the right to use it, until it is released; `first` goes before all others.

        `deadline` is a `time.monotonic()`. Raises TimeoutError when it passes, DecodeUnavailable
        where there is no hope of a worker.
        """
        patience = None if deadline is None else deadline - time.monotonic()
        if patience is not None and patience <= 0:
            self._stats.dropped += 1
            raise TimeoutError("the deadline has passed")
        waiter: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(waiter)
        self.serve()
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except (TimeoutError, asyncio.CancelledError):
            self._stats.dropped += 1
            self._leave(waiter)
            raise

    def release(self, worker: WorkerProcess) -> None:
        """The clip is done with its worker, dead or alive."""
        self.running -= 1
        self._slow.discard(worker)
        self._crew.give_back(worker)
        self.serve()

    def is_slow(self, worker: WorkerProcess) -> None:
        """This worker's clip takes long: let another pass by."""
        self._slow.add(worker)
        self.serve()

    def serve(self) -> None:
        """Hand out workers that are ready; send everybody away where there is no hope of one."""
        most = self._size + min(len(self._slow), self._spares)
        while self.running < most and (waiter := self._next()):
            worker = self._crew.take()
            if worker is None:
                break
            self._waiting.popleft()
            self.running += 1
            waiter.set_result(worker)
        while not self._crew.alive and (waiter := self._next()):
            self._waiting.popleft()
            waiter.set_exception(DecodeUnavailable(SHUT))

    def _next(self) -> asyncio.Future[WorkerProcess] | None:
        """The first that still waits: one that was cancelled stays in the line until its task
        runs again, and a worker handed to it would be lost.
        """
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _leave(self, waiter: asyncio.Future[WorkerProcess]) -> None:
        """Out of the line; a worker that was given at this very moment goes back."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.release(waiter.result())
