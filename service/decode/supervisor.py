"""Keep a number of workers alive: start, replace, retire. Knows nothing of clips."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from service.decode.errors import DecodeUnavailable
from service.decode.options import PoolOptions
from service.decode.process import Death, WorkerProcess
from service.decode.protocol import Ready, Setup
from service.decode.stats import PoolStats

log = logging.getLogger(__name__)

# After this many workers in a row that came to nothing, and none left, the crew is down.
HOPELESS_AFTER = 3
# A worker that dies idle within this time of its start counts as one that could not start.
SETTLED_AFTER_S = 5.0
# Ends that are part of the plan, or that the job's own log line tells.
EXPECTED = frozenset(["stop", "jobs", "memory", "cancelled"])
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 30.0


class Crew:
    """`size` workers; `on_change` is called when one gets ready, or when hope of one is lost."""

    def __init__(
        self, size: int, command: Sequence[str], options: PoolOptions, stats: PoolStats
    ) -> None:
        self._size = self._wanted = size
        self._command = tuple(command)
        self._setup = b""
        self._options = options
        self._stats = stats
        self.on_change: Callable[[], None] = lambda: None
        self._processes: set[WorkerProcess] = set()
        self._dying: set[WorkerProcess] = set()
        self._idle: deque[WorkerProcess] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._failures = 0
        self._open = False
        self._starting: asyncio.Future[None] | None = None
        self.sandbox: dict[str, str] = {}

    @property
    def alive(self) -> bool:
        """Whether a job may hope for a worker."""
        if not self._open:
            return False
        return self._failures < HOPELESS_AFTER or self.ready > 0

    @property
    def ready(self) -> int:
        """Workers that have said that they are."""
        return sum(process.ready_since is not None for process in self._processes)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that there are, ready or starting."""
        return tuple(process.pid for process in self._processes)

    async def start(self, setup: Setup, at_first: int | None = None) -> None:
        """Start everybody, or only so many at first; returns when these are ready, raises
        DecodeUnavailable when none can.
        """
        self._open = True
        self._wanted = min(at_first or self._size, self._size)
        self._setup = setup.to_bytes()
        self._starting = ready = asyncio.get_running_loop().create_future()
        self._fill()
        try:
            await ready
        except BaseException:
            await self.stop()
            raise

    def complete(self) -> None:
        """Start those that were left out at first."""
        self._wanted = self._size
        self._fill()

    async def stop(self) -> None:
        """End everybody and wait until the system has forgotten them."""
        self._open = False
        if self._later is not None:
            self._later.cancel()
        for process in tuple(self._processes):
            process.end("stop")
        await asyncio.gather(*(process.death for process in tuple(self._dying)))
        await asyncio.gather(*self._tasks)

    def take(self) -> WorkerProcess | None:
        """The worker that has been ready longest, or None."""
        return self._idle.popleft() if self._idle else None

    def give_back(self, worker: WorkerProcess) -> None:
        """A job is over; the worker goes back in line, or ends where its time has come."""
        if not worker.alive:
            return
        self._failures = 0
        reason = self._retirement(worker)
        # Retiring has time until another stands by.
        if reason and self._idle:
            worker.end(reason)
        else:
            self._idle.append(worker)

    def _retirement(self, worker: WorkerProcess) -> str:
        if worker.jobs >= self._options.jobs_per_worker:
            return "jobs"
        grown = worker.resident_bytes() - worker.resident_when_ready
        return "memory" if grown > self._options.max_growth_bytes else ""

    def _fill(self) -> None:
        """Start what is missing, unless starting is being held back."""
        while self._open and self._later is None and len(self._processes) < self._wanted:
            try:
                process = WorkerProcess(self._command, self._setup, self._ended)
            except OSError as error:
                self._failed(f"{type(error).__name__}: {error.strerror}")
                return
            self._stats.started += 1
            self._processes.add(process)
            task = asyncio.create_task(self._welcome(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, process: WorkerProcess) -> None:
        """Wait for a new worker's first word, and put it in line."""
        await asyncio.wait({process.hello}, timeout=self._options.start_timeout_s)
        packet = process.hello.result() if process.hello.done() else None
        if not isinstance(packet, bytes):
            process.end("start")
            return
        try:
            sandbox = Ready.model_validate_json(packet).sandbox
        except ValueError:
            process.end("start")
            return
        process.ready()
        self._report(sandbox)
        self._idle.append(process)
        if len(self._idle) == self._wanted and self._starting is not None:
            self._starting.set_result(None)
            self._starting = None
        self.on_change()

    def _report(self, sandbox: dict[str, str]) -> None:
        missing = {name: state for name, state in sandbox.items() if state != "yes"}
        if missing and sandbox != self.sandbox:
            log.warning("decode workers are confined less than they could be: %s", missing)
        self.sandbox = sandbox

    def _ended(self, process: WorkerProcess) -> None:
        """A worker is of no more use: count it once it is dead, and start another."""
        self._processes.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        self._dying.add(process)
        if process.reason != "crash":
            self._stats.ended[process.reason] += 1
        process.death.add_done_callback(lambda death: self._buried(process, death.result()))
        if not self._open:
            return
        if self._came_to_nothing(process):
            self._failed("a worker died before it did any work; its words are in the log")
        else:
            self._fill()
        self.on_change()

    def _buried(self, process: WorkerProcess, death: Death) -> None:
        self._dying.discard(process)
        if process.reason == "crash":
            # Of what, only the exit status told.
            self._stats.ended[death.reason] += 1
        if death.reason not in EXPECTED:
            log.warning("decode worker %d ended: %s", process.pid, death)

    @staticmethod
    def _came_to_nothing(process: WorkerProcess) -> bool:
        if process.jobs:
            return False
        since = process.ready_since
        return since is None or time.monotonic() - since < SETTLED_AFTER_S

    def _failed(self, why: str) -> None:
        """Hold back before starting again, longer each time."""
        self._failures += 1
        if self._later is None:
            delay = min(FIRST_DELAY_S * 2 ** (self._failures - 1), LONGEST_DELAY_S)
            self._later = asyncio.get_running_loop().call_later(delay, self._try_again)
        if self.alive:
            return
        log.error("decode workers cannot start (%d tries): %s", self._failures, why)
        if self._starting is not None:
            self._starting.set_exception(DecodeUnavailable(f"decode workers cannot start: {why}"))
            self._starting = None

    def _try_again(self) -> None:
        self._later = None
        self._fill()
