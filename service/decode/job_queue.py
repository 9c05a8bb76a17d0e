"""Assign workers to jobs: first come, first served, within each job's deadline."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from service.decode.errors import DecodeUnavailable
from service.decode.process import WorkerProcess
from service.decode.stats import PoolStats
from service.decode.supervisor import Supervisor

STOPPED = "the decode workers are not running"


class JobQueue:
    """Queue jobs until the supervisor has an idle worker for them.

    At most `size` jobs run at once. While a slow one runs, a spare worker may serve those behind
    it: as many beyond `size` as there are slow jobs, but no more than `spares`.
    """

    def __init__(self, supervisor: Supervisor, size: int, spares: int, stats: PoolStats) -> None:
        self._supervisor = supervisor
        self._size = size
        self._spares = spares
        self._stats = stats
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._slow: set[WorkerProcess] = set()
        self.running = 0
        supervisor.on_change = self.dispatch

    @property
    def waiting(self) -> int:
        """Number of jobs that no worker has begun."""
        return len(self._waiting)

    async def acquire(self, deadline: float | None, *, first: bool = False) -> WorkerProcess:
        """Wait for a worker and the right to use it until it is released.

        Args:
            deadline: A `time.monotonic()` after which waiting is given up; None waits on.
            first: Go before all other jobs.

        Raises:
            TimeoutError: The deadline passed first.
            DecodeUnavailable: There is no hope of a worker.
        """
        timeout_s = None if deadline is None else deadline - time.monotonic()
        if timeout_s is not None and timeout_s <= 0:
            self._stats.dropped += 1
            raise TimeoutError("the deadline has passed")
        waiter: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(waiter)
        self.dispatch()
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except (TimeoutError, asyncio.CancelledError):
            self._stats.dropped += 1
            self._leave(waiter)
            raise

    def release(self, worker: WorkerProcess) -> None:
        """End a job's use of its worker, dead or alive."""
        self.running -= 1
        self._slow.discard(worker)
        self._supervisor.give_back(worker)
        self.dispatch()

    def mark_slow(self, worker: WorkerProcess) -> None:
        """Note that this worker's job takes long, so that another may run beside it."""
        self._slow.add(worker)
        self.dispatch()

    def dispatch(self) -> None:
        """Assign idle workers; fail every job where there is no hope of a worker."""
        most = self._size + min(len(self._slow), self._spares)
        while self.running < most and (waiter := self._next()):
            worker = self._supervisor.take()
            if worker is None:
                break
            self._waiting.popleft()
            self.running += 1
            waiter.set_result(worker)
        while not self._supervisor.alive and (waiter := self._next()):
            self._waiting.popleft()
            waiter.set_exception(DecodeUnavailable(STOPPED))

    def _next(self) -> asyncio.Future[WorkerProcess] | None:
        """Return the first job that still waits.

        A cancelled one stays in the queue until its task runs again; a worker that was assigned
        to it would be lost.
        """
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _leave(self, waiter: asyncio.Future[WorkerProcess]) -> None:
        """Leave the queue; release a worker that was assigned at this very moment."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.release(waiter.result())
