"""Assign workers to jobs: the clients in turn, within each job's deadline."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from service.decode.errors import DecodeUnavailable
from service.decode.process import WorkerProcess
from service.decode.stats import PoolStats
from service.decode.supervisor import Supervisor
from service.sharing.costs import Charge, free
from service.sharing.fair_queue import FairQueue

STOPPED = "the decode workers are not running"


@dataclass(eq=False)
class _Waiter:
    worker: asyncio.Future[WorkerProcess]
    large: bool


class JobQueue:
    """Queue jobs until the supervisor has an idle worker for them.

    At most `size` jobs run at once; beyond them a spare worker serves others than whose clips hold
    them up, and none that is known to be large. While a job is large or slow it may run one of
    somebody who has no such one; and while one client has more than half of the workers, one of
    somebody who has none.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        size: int,
        spares: int,
        stats: PoolStats,
        charge: Charge = free,
    ) -> None:
        self._supervisor = supervisor
        self._size = size
        self._spares = spares
        self._stats = stats
        self._charge = charge
        self._waiting: FairQueue[_Waiter] = FairQueue()
        self._client_of: dict[WorkerProcess, str] = {}
        self._since: dict[WorkerProcess, float] = {}
        self._slow: set[WorkerProcess] = set()  # large ones from the beginning
        self._aside: set[WorkerProcess] = set()
        supervisor.on_change = self.dispatch

    @property
    def waiting(self) -> int:
        """Number of jobs that no worker has begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of jobs that have a worker."""
        return len(self._client_of)

    @property
    def is_full(self) -> bool:
        """Whether no more than the spares are left."""
        aside = min(len(self._aside), self._spares)
        return self.running - aside >= self._size

    async def acquire(
        self,
        deadline: float | None,
        client: str = "",
        *,
        first: bool = False,
        large: bool = False,
    ) -> WorkerProcess:
        """Wait for a worker and the right to use it until it is released.

        Args:
            deadline: A `time.monotonic()` after which waiting is given up; None waits on.
            client: Whose job it is.
            first: Go before all other jobs.
            large: It takes long, as is known, and is not for spares.

        Raises:
            TimeoutError: The deadline passed first.
            DecodeUnavailable: There is no hope of a worker.
        """
        timeout_s = None if deadline is None else deadline - time.monotonic()
        if timeout_s is not None and timeout_s <= 0:
            self._stats.dropped += 1
            raise TimeoutError("the deadline has passed")
        waiter = _Waiter(asyncio.get_running_loop().create_future(), large)
        self._waiting.put(client, waiter, first=first)
        self.dispatch()
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.worker
        except (TimeoutError, asyncio.CancelledError):
            self._stats.dropped += 1
            self._leave(client, waiter)
            raise

    def release(self, worker: WorkerProcess) -> None:
        """End a job's use of its worker, dead or alive; its client is charged for all of it."""
        seconds = time.monotonic() - self._since.pop(worker)
        self._charge(self._client_of.pop(worker), seconds)
        self._slow.discard(worker)
        self._aside.discard(worker)
        self._supervisor.give_back(worker)
        self.dispatch()

    def mark_slow(self, worker: WorkerProcess) -> None:
        """Note that this worker's job takes long, so that another may run beside it."""
        self._slow.add(worker)
        self.dispatch()

    def set_aside(self, worker: WorkerProcess) -> None:
        """Note that this worker's job takes minutes: while a spare is left it is not counted."""
        self._aside.add(worker)
        self.dispatch()

    def dispatch(self) -> None:
        """Assign idle workers; fail every job where there is no hope of a worker."""
        while taken := self._next():
            client, waiter = taken
            worker = self._supervisor.take()
            if worker is None:
                self._waiting.put(client, waiter, first=True)
                break
            self._client_of[worker] = client
            self._since[worker] = time.monotonic()
            if waiter.large:
                self._slow.add(worker)
            waiter.worker.set_result(worker)
        while not self._supervisor.alive and (taken := self._waiting.take()):
            if not taken[1].worker.done():
                taken[1].worker.set_exception(DecodeUnavailable(STOPPED))

    def _next(self) -> tuple[str, _Waiter] | None:
        """Take the first job that still waits, and whose it is.

        A cancelled one stays in the queue until its task runs again; a worker that was assigned
        to it would be lost.
        """
        while taken := self._waiting.take(self._may_begin):
            if not taken[1].worker.done():
                return taken
        return None

    def _may_begin(self, client: str, waiter: _Waiter) -> bool:
        if waiter.large and len(self._slow | self._aside) >= max(1, self._size + self._spares - 1):
            return False  # one worker stays for small clips, also beside a video in windows
        aside = min(len(self._aside), self._spares)
        beyond = self.running - aside - self._size
        if beyond < 0:
            return True
        if waiter.large or beyond >= self._spares - aside:
            return False
        if client in {self._client_of[w] for w in self._slow}:
            return False
        held = Counter(self._client_of.values())
        crowded_out = not held[client] and 2 * max(held.values()) > self._size
        return crowded_out or len(self._slow) > beyond

    def _leave(self, client: str, waiter: _Waiter) -> None:
        """Leave the queue; release a worker that was assigned at this very moment."""
        self._waiting.remove(client, waiter)
        given = waiter.worker
        if given.done() and not given.cancelled() and given.exception() is None:
            self.release(given.result())
