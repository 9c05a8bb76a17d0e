"""Handing a job to a worker: the upload, memory for frames, and as many threads as are free."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TypeVar

from service.decode.descriptors import read_only
from service.decode.errors import DecodeUnavailable
from service.decode.frame_memory import FrameMemory, Shape
from service.decode.job_queue import JobQueue
from service.decode.options import PoolOptions
from service.decode.process import WorkerExit, WorkerProcess
from service.decode.protocol import MOST_THREADS, YES, Job
from service.decode.supervisor import Supervisor
from service.decode.window_protocol import WindowsJob

log = logging.getLogger(__name__)

AnyJob = TypeVar("AnyJob", Job, WindowsJob)


class Handover:
    """Hands jobs over. `fault` is why the last one could not be, where that was this system's."""

    def __init__(
        self, workers: int, supervisor: Supervisor, queue: JobQueue, options: PoolOptions
    ) -> None:
        self._workers, self._supervisor, self._queue = workers, supervisor, queue
        self._options = options
        self.fault: str | None = None

    def memory(self, shape: Shape) -> FrameMemory:
        """Return memory for frames. Raises DecodeUnavailable."""
        try:
            return FrameMemory(shape)
        except OSError as error:
            raise self._unavailable(f"no memory for frames: {error.strerror}") from error

    def threaded(self, job: AnyJob) -> AnyJob:
        """Return a job that has a worker with as many threads as it may use now."""
        return job.model_copy(update={"threads": self._threads()})

    def send(
        self, worker: WorkerProcess, source: int | Path, job: Job | WindowsJob, memory: FrameMemory
    ) -> asyncio.Future[bytes | WorkerExit]:
        """Send a job; the future gets the first answer. Raises DecodeUnavailable."""
        try:
            with read_only(source) as upload:
                worker.limit_cpu(self._options.max_decode_s * job.threads)
                answer = worker.submit(job.to_bytes(), (upload, memory.fd))
        except OSError as error:
            raise self._unavailable(f"the upload cannot be opened: {error.strerror}") from error
        self.fault = None
        return answer

    def _threads(self) -> int:
        """Return how many threads a clip that begins now may use: the cores that no other one does.

        Where no filter tells threads from processes workers can start neither.
        """
        if not self._supervisor.sandbox.get("seccomp", "").startswith(YES):
            return 1
        return min(max(self._workers // self._queue.running, 1), MOST_THREADS)

    def _unavailable(self, fault: str) -> DecodeUnavailable:
        if fault != self.fault:
            log.error("a clip cannot be handed to a decode worker: %s", fault)
        self.fault = fault
        return DecodeUnavailable(fault)
