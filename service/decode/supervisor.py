"""Keep a number of workers running: start, replace, retire. Knows nothing of clips."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from service.decode.ending import UNREMARKABLE, Ending
from service.decode.errors import DecodeUnavailable
from service.decode.options import PoolOptions
from service.decode.process import WorkerExit, WorkerProcess
from service.decode.protocol import Ready, Setup
from service.decode.stats import PoolStats

log = logging.getLogger(__name__)

# After so many failed starts in a row, and with no worker left, the pool is down.
DOWN_AFTER_FAILURES = 3
# A worker that dies idle within this time of its start counts as one that could not start.
SETTLED_AFTER_S = 5.0
DIED_AT_START = "a worker died before it did any work; its standard error is in the log"
UNCONFINED = "this system lacks {}, and XCLIP_SANDBOX=require asks for it; warn does without"
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 30.0


class Supervisor:
    """Run `size` workers; call `on_change` when one gets ready, or when no more can start."""

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
        self._retry: asyncio.TimerHandle | None = None
        self._failures = 0
        self._refusal = ""  # why workers that could start are not used
        self._open = False
        self._starting: asyncio.Future[None] | None = None
        self.sandbox: dict[str, str] = {}

    @property
    def alive(self) -> bool:
        """Whether a job may expect a worker."""
        if not self._open:
            return False
        return self._failures < DOWN_AFTER_FAILURES or self.ready > 0

    @property
    def ready(self) -> int:
        """Number of workers that have reported ready."""
        return sum(process.ready_since is not None for process in self._processes)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers, ready or starting."""
        return tuple(process.pid for process in self._processes)

    async def start(self, setup: Setup, at_first: int | None = None) -> None:
        """Start the workers and wait until they are ready.

        Args:
            setup: The first message to each worker.
            at_first: Start only so many; `complete` starts the others. None starts all.

        Raises:
            DecodeUnavailable: No worker can be started.
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
        """Start the workers that were left out at first."""
        self._wanted = self._size
        self._fill()

    async def stop(self) -> None:
        """End every worker and wait until it has been reaped."""
        self._open = False
        if self._retry is not None:
            self._retry.cancel()
        for process in tuple(self._processes):
            process.end(Ending.STOP)
        await asyncio.gather(*(process.exited for process in tuple(self._dying)))
        await asyncio.gather(*self._tasks)

    def take(self) -> WorkerProcess | None:
        """Return the worker that has been idle longest, or None."""
        return self._idle.popleft() if self._idle else None

    def give_back(self, worker: WorkerProcess) -> None:
        """Make a worker available again after a job, or retire it."""
        if not worker.alive:
            return
        self._failures = 0
        if worker.jobs >= self._options.jobs_per_worker:
            worker.end(Ending.JOBS)
        # That can wait until another worker stands by.
        elif self._idle and self._has_grown(worker):
            worker.end(Ending.MEMORY)
        else:
            self._idle.append(worker)

    def _has_grown(self, worker: WorkerProcess) -> bool:
        grown = worker.resident_bytes() - worker.resident_when_ready
        return grown > self._options.max_growth_bytes

    def _fill(self) -> None:
        """Start the missing workers, unless starting is being delayed."""
        while self._open and self._retry is None and len(self._processes) < self._wanted:
            try:
                process = WorkerProcess(self._command, self._setup, self._ended)
            except OSError as error:
                self._start_failed(f"{type(error).__name__}: {error.strerror}")
                return
            self._stats.started += 1
            self._processes.add(process)
            task = asyncio.create_task(self._await_ready(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await_ready(self, process: WorkerProcess) -> None:
        """Wait for a new worker's first message, and make it available."""
        await asyncio.wait({process.first_message}, timeout=self._options.start_timeout_s)
        packet = process.first_message.result() if process.first_message.done() else None
        if not isinstance(packet, bytes):
            process.end(Ending.START)
            return
        try:
            answer = Ready.model_validate_json(packet)
        except ValueError:
            process.end(Ending.START)
            return
        missing = answer.missing()
        if missing and self._options.sandbox == "require":
            self._refusal = UNCONFINED.format(
                ", ".join(f"{name} ({how})" for name, how in missing.items())
            )
            process.end(Ending.START)
            return
        process.ready()
        self._report(answer.sandbox, missing)
        self._idle.append(process)
        if len(self._idle) == self._wanted and self._starting is not None:
            self._starting.set_result(None)
            self._starting = None
        self.on_change()

    def _report(self, sandbox: dict[str, str], missing: dict[str, str]) -> None:
        if missing and sandbox != self.sandbox:
            log.warning("decode workers are confined less than they could be: %s", missing)
        self.sandbox = sandbox

    def _ended(self, process: WorkerProcess) -> None:
        """Count a worker that can do no more work, and start another."""
        self._processes.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        self._dying.add(process)
        if process.ending is not None and process.ending is not Ending.CRASH:
            self._stats.ended[process.ending] += 1
        process.exited.add_done_callback(lambda exited: self._reaped(process, exited.result()))
        if not self._open:
            return
        if self._never_worked(process):
            self._start_failed(self._refusal or DIED_AT_START)
        else:
            self._fill()
        self.on_change()

    def _reaped(self, process: WorkerProcess, exited: WorkerExit) -> None:
        self._dying.discard(process)
        if process.ending is Ending.CRASH:
            # Only the exit status tells of which kind it was.
            self._stats.ended[exited.ending] += 1
        if exited.ending not in UNREMARKABLE:
            log.warning(
                "decode worker %d ended: %s, exit status %d",
                process.pid,
                exited.ending,
                exited.exit_code,
            )

    @staticmethod
    def _never_worked(process: WorkerProcess) -> bool:
        if process.jobs:
            return False
        since = process.ready_since
        return since is None or time.monotonic() - since < SETTLED_AFTER_S

    def _start_failed(self, why: str) -> None:
        """Delay the next start, longer after each failure."""
        self._failures += 1
        if self._retry is None:
            delay = min(FIRST_DELAY_S * 2 ** (self._failures - 1), LONGEST_DELAY_S)
            self._retry = asyncio.get_running_loop().call_later(delay, self._start_again)
        if self.alive:
            return
        log.error("decode workers cannot start (%d tries): %s", self._failures, why)
        if self._starting is not None:
            self._starting.set_exception(DecodeUnavailable(f"decode workers cannot start: {why}"))
            self._starting = None

    def _start_again(self) -> None:
        self._retry = None
        self._fill()
