"""A pool of confined decode workers. Parent side, one event loop.

One worker more than may work at once stands by loaded: killing one costs the next clip nothing,
and a slow clip does not hold up all others. Whatever a file does to its worker, the worker is
replaced and only that file's sender hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.inputs.clip import Clip
from model.inputs.errors import VideoError
from model.inputs.limits import VideoLimits
from model.inputs.spec import InputSpec
from service.decode.answer_validation import OUT_OF_TIME, BadAnswer, clip_from, error_for
from service.decode.descriptors import read_only
from service.decode.errors import DecodeUnavailable
from service.decode.frame_memory import FrameMemory, Shape
from service.decode.job_queue import SHUT, Line
from service.decode.options import PoolOptions
from service.decode.process import WORKER, Death, WorkerProcess
from service.decode.protocol import MAX_FRAMES_PER_JOB, Confinement, Crops, Job, Setup
from service.decode.stats import PoolStats
from service.decode.supervisor import Crew
from service.decode.syscalls import FilterUnavailable, compile_filter

log = logging.getLogger(__name__)

# The sampled frames, stacked, put in order and made contiguous: that many copies at once.
COPIES_OF_FRAMES = 3


@dataclass(frozen=True)
class Task:
    """One clip to decode: where it is, what is wanted of it, and when it is given up."""

    source: int | Path
    job: Job
    shape: Shape
    times: int
    give_up_at: float


class DecodePool:
    """Decodes clips in processes that can be lost.

    `workers` clips at once, one more beside a slow one; `spec` and `limits` hold for every clip.
    `command` starts a worker and is there for tests of workers that misbehave. `stats` only grows.
    """

    def __init__(
        self,
        workers: int,
        spec: InputSpec,
        limits: VideoLimits | None = None,
        options: PoolOptions | None = None,
        *,
        command: Sequence[str] = WORKER,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.workers = workers
        self.options = options or PoolOptions()
        self.stats = PoolStats()
        self._spec = spec
        self._limits = limits or VideoLimits()
        spares = self.options.spares
        self._crew = Crew(workers + spares, command, self.options, self.stats)
        self._line = Line(self._crew, workers, spares, self.stats)
        self._started = False

    @property
    def alive(self) -> bool:
        """False when no job can be done: before the start, after the stop, or when no worker can
        be started any more. A pool that only replaces its workers is alive.
        """
        return self._crew.alive

    @property
    def sandbox(self) -> dict[str, str]:
        """Each measure of confinement and whether it holds: "yes", or why not."""
        return dict(self._crew.sandbox)

    @property
    def waiting(self) -> int:
        """Clips that no worker has begun."""
        return self._line.waiting

    @property
    def running(self) -> int:
        """Clips that a worker is at."""
        return self._line.running

    @property
    def ready(self) -> int:
        """Workers that are loaded and locked, at work or not."""
        return self._crew.ready

    @property
    def pids(self) -> tuple[int, ...]:
        """The worker processes there are."""
        return self._crew.pids

    async def start(self, at_first: int | None = None) -> None:
        """Start the workers and wait until they are ready; DecodeUnavailable where they cannot.

        With `at_first` only so many: clips can be decoded, and `complete` starts the others.
        Call on the thread whose event loop will use the pool.
        """
        if self._started:
            raise RuntimeError("the pool was started before")
        self._started = True
        await self._crew.start(self._setup(), at_first)

    def complete(self) -> None:
        """Start the workers that were left out at first; nobody waits for them."""
        self._crew.complete()

    async def stop(self) -> None:
        """End every worker, whatever it is doing; clips that wait get DecodeUnavailable."""
        await self._crew.stop()
        self._line.serve()

    async def decode(
        self,
        source: int | Path,
        *,
        views: int = 1,
        crops: Crops = 1,
        start: float | None = None,
        end: float | None = None,
        deadline: float | None = None,
    ) -> Clip:
        """Decode an upload: an open file's descriptor, or a path of ours.

        `deadline` is a `time.monotonic()`. The frames of the clip are read-only shared memory,
        given back when the last reference goes. Cancelling drops a clip that waits; one that is
        being decoded is ended shortly after.

        Raises a VideoError for what is wrong with the clip (DecodeTimeout, DecodeCrashed and
        TooDemanding among them), TimeoutError when the deadline passes before a worker was free,
        DecodeUnavailable when no worker can be had.
        """
        job, shape = self._job(views, crops, start, end)
        self.stats.jobs += 1
        worker = await self._line.acquire(deadline)
        began = time.monotonic()
        give_up_at = began + self.options.max_decode_s
        if deadline is not None:
            give_up_at = min(give_up_at, deadline)
        task = Task(source, job, shape, views * self._spec.num_frames, give_up_at)
        outcome = await self._run(worker, task)
        if isinstance(outcome, Death) and _is_innocent(outcome, worker):
            self.stats.retried += 1
            outcome = await self._run(await self._line.acquire(deadline, first=True), task)
        if not isinstance(outcome, Death):
            return outcome
        if outcome.reason == "stop":
            raise DecodeUnavailable(SHUT)
        raise error_for(outcome, give_up_at - began)

    def _setup(self) -> Setup:
        try:
            program = compile_filter()
        except FilterUnavailable as error:
            log.warning("system calls of decode workers are not filtered: %s", error)
            program = ""
        one_view = self._spec.num_frames * self._spec.image_size**2 * 3
        frames = one_view * self.options.max_views
        return Setup(
            spec=self._spec,
            limits=self._limits,
            confinement=Confinement(
                memory_bytes=self.options.memory_bytes + COPIES_OF_FRAMES * frames,
                shared_bytes=frames,
                open_files=self.options.open_files,
                libav_alloc_bytes=self.options.libav_alloc_bytes,
                seccomp_program=program,
            ),
        )

    def _job(
        self, views: int, crops: Crops, start: float | None, end: float | None
    ) -> tuple[Job, Shape]:
        most = min(self.options.max_views, MAX_FRAMES_PER_JOB // self._spec.num_frames)
        if not 1 <= views * crops <= most:
            raise ValueError(f"views times crops must be 1 to {most}, not {views * crops}")
        side = self._spec.image_size
        shape = (views * crops, self._spec.num_frames, side, side, 3)
        ticket = secrets.token_hex(8)
        return Job(ticket=ticket, views=views, crops=crops, start=start, end=end), shape

    async def _run(self, worker: WorkerProcess, task: Task) -> Clip | Death:
        """One try: the clip, or how the worker ended. The worker is given back."""
        began = time.monotonic()
        abandoned = False
        slow = asyncio.get_running_loop().call_later(
            self.options.slow_after_s, self._line.is_slow, worker
        )
        try:
            with _frame_memory(task.shape) as memory:
                answer = self._send(worker, task, memory)
                try:
                    await asyncio.wait({answer}, timeout=task.give_up_at - began)
                except asyncio.CancelledError:
                    abandoned = True
                    self._abandon(worker, answer)
                    raise
                if not answer.done():
                    worker.end("timeout")
                    return Death("timeout", 0)
                return self._outcome(answer.result(), worker, task, memory)
        finally:
            slow.cancel()
            self.stats.busy_s += time.monotonic() - began
            if not abandoned:
                self._line.release(worker)

    def _send(
        self, worker: WorkerProcess, task: Task, memory: FrameMemory
    ) -> asyncio.Future[bytes | Death]:
        try:
            with read_only(task.source) as upload:
                worker.limit_cpu(self.options.max_decode_s)
                return worker.ask(task.job.to_bytes(), (upload, memory.fd))
        except OSError as error:
            raise DecodeUnavailable(f"the upload cannot be opened: {error.strerror}") from error

    def _outcome(
        self, result: bytes | Death, worker: WorkerProcess, task: Task, memory: FrameMemory
    ) -> Clip | Death:
        if isinstance(result, Death):
            return result
        try:
            clip = clip_from(result, task.job.ticket, memory, task.times)
        except BadAnswer as bad:
            worker.end(bad.reason)
            return Death(bad.reason, 0)
        except VideoError:
            self.stats.refused += 1
            raise
        self.stats.decoded += 1
        return clip

    def _abandon(self, worker: WorkerProcess, answer: asyncio.Future[bytes | Death]) -> None:
        """Nobody wants this clip any more: let it finish if it is about to, else end the worker."""
        timer = asyncio.get_running_loop().call_later(
            self.options.cancel_grace_s, worker.end, "cancelled"
        )

        def over(_: asyncio.Future[bytes | Death]) -> None:
            timer.cancel()
            self._line.release(worker)

        answer.add_done_callback(over)


def _is_innocent(death: Death, worker: WorkerProcess) -> bool:
    """Whether the worker may have died of something other than this clip.

    It was dead before it got the clip, or an earlier clip may have left it damaged.
    """
    if death.reason in OUT_OF_TIME:
        return False
    return death.reason == "idle" or worker.jobs > 1


def _frame_memory(shape: Shape) -> FrameMemory:
    try:
        return FrameMemory(shape)
    except OSError as error:
        raise DecodeUnavailable(f"no memory for frames: {error.strerror}") from error
