"""Clips, each decoded by one worker of the pool. Parent side."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from model.inputs.clip import Clip
from model.inputs.errors import VideoError
from model.inputs.sampling import FrameChoice
from model.inputs.spec import InputSpec
from service.decode.answer_validation import BadAnswer, clip_from, error_for
from service.decode.ending import Ending
from service.decode.errors import DecodeUnavailable, TakesLonger
from service.decode.frame_memory import COPIED_IN_THREAD_FROM, FrameMemory, Shape
from service.decode.handover import Handover
from service.decode.innocence import may_be_innocent
from service.decode.job_queue import STOPPED, JobQueue
from service.decode.options import PoolOptions
from service.decode.process import WorkerExit, WorkerProcess
from service.decode.protocol import MAX_FRAMES_PER_JOB, Cancel, Crops, Job
from service.decode.rates import LearnedRates
from service.decode.stats import PoolStats


@dataclass(frozen=True)
class Task:
    """One clip to decode. `shape` is of its frames, `times` how many frame times it has,
    `give_up_at` a `time.monotonic()`. Whether it is `large` is known once a worker has said so.
    """

    source: int | Path
    job: Job
    shape: Shape
    times: int
    give_up_at: float
    large: bool = False


class ClipPool:
    """Decodes clips that take seconds: a second try for whoever may be innocent, and no third."""

    def __init__(
        self,
        spec: InputSpec,
        options: PoolOptions,
        queue: JobQueue,
        handover: Handover,
        stats: PoolStats,
    ) -> None:
        self._spec, self._options, self._stats = spec, options, stats
        self._queue, self._handover = queue, handover
        self._rates = LearnedRates()

    def job(
        self,
        views: int,
        crops: Crops,
        start: float | None,
        end: float | None,
        frame_rule: FrameChoice,
    ) -> Job:
        """Make a job; ValueError where its frames are too many."""
        most = min(self._options.max_views, MAX_FRAMES_PER_JOB // self._spec.num_frames)
        if not 1 <= views * crops <= most:
            raise ValueError(f"views times crops must be 1 to {most}, not {views * crops}")
        return Job(
            ticket=secrets.token_hex(8),
            views=views,
            crops=crops,
            start=start,
            end=end,
            frame_rule=frame_rule,
            budget_s=self._options.budget_s,
            rates=self._rates.known,
        )

    async def decode(
        self, source: int | Path, job: Job, deadline: float | None, client: str
    ) -> Clip:
        """Return the clip; see `DecodePool.decode`."""
        self._stats.jobs += 1
        worker = await self._queue.acquire(deadline, client)
        began = time.monotonic()
        side, frames = self._spec.image_size, self._spec.num_frames
        shape = (job.views * job.crops, frames, side, side, 3)
        task = Task(source, job, shape, job.views * frames, self._give_up_at(deadline))
        try:
            outcome = await self._run(worker, task)
        except TakesLonger:
            self._stats.put_off += 1
            worker = await self._queue.acquire(deadline, client, large=True)
            began = time.monotonic()
            task = replace(task, give_up_at=self._give_up_at(deadline), large=True)
            outcome = await self._run(worker, task)
        if isinstance(outcome, WorkerExit) and may_be_innocent(outcome, worker):
            self._stats.retried += 1
            worker = await self._queue.acquire(deadline, client, first=True, large=task.large)
            outcome = await self._run(worker, replace(task, large=True))  # it has waited
        if not isinstance(outcome, WorkerExit):
            return outcome
        if outcome.ending is Ending.STOP:
            raise DecodeUnavailable(STOPPED)
        raise error_for(outcome, task.give_up_at - began, job.frame_rule)

    def _give_up_at(self, deadline: float | None) -> float:
        """Return until when a job that begins now may run."""
        give_up_at = time.monotonic() + self._options.max_decode_s
        return give_up_at if deadline is None else min(give_up_at, deadline)

    async def _run(self, worker: WorkerProcess, task: Task) -> Clip | WorkerExit:
        """Try once: return the clip or how the worker ended, and release the worker."""
        began = time.monotonic()
        abandoned = False
        if self._queue.is_full and not task.large:  # what begins now leaves nothing but spares
            small = task.job.model_copy(update={"at_most_s": self._options.small_s})
            task = replace(task, job=small)
        slow = asyncio.get_running_loop().call_later(
            self._options.slow_after_s, self._queue.mark_slow, worker
        )
        try:
            with self._handover.memory(task.shape) as memory:
                job = self._handover.threaded(task.job)
                answer = self._handover.send(worker, task.source, job, memory)
                try:
                    await asyncio.wait({answer}, timeout=task.give_up_at - began)
                except asyncio.CancelledError:
                    abandoned = True
                    self._abandon(worker, task.job, answer)
                    raise
                if not answer.done():
                    worker.end(Ending.TIMEOUT)
                    return WorkerExit(Ending.TIMEOUT, 0)
                return await self._outcome(answer.result(), worker, task, memory)
        finally:
            slow.cancel()
            self._stats.busy_s += time.monotonic() - began
            if not abandoned:
                self._queue.release(worker)

    async def _outcome(
        self, result: bytes | WorkerExit, worker: WorkerProcess, task: Task, memory: FrameMemory
    ) -> Clip | WorkerExit:
        if isinstance(result, WorkerExit):
            return result
        try:
            clip = await _read_clip(result, task, memory)
        except BadAnswer as bad:
            worker.end(bad.ending)
            return WorkerExit(bad.ending, 0)
        except VideoError:
            self._stats.refused += 1
            raise
        self._stats.decoded += 1
        if clip.work is not None:
            self._rates.learn(clip.work)
        return clip

    def _abandon(
        self, worker: WorkerProcess, job: Job, answer: asyncio.Future[bytes | WorkerExit]
    ) -> None:
        """Tell a worker that nobody waits for its clip, and end it where it does not stop soon."""
        worker.tell(Cancel(ticket=job.ticket).to_bytes())
        timer = asyncio.get_running_loop().call_later(
            self._options.cancel_grace_s, worker.end, Ending.CANCELLED
        )

        def release(_: asyncio.Future[bytes | WorkerExit]) -> None:
            timer.cancel()
            self._queue.release(worker)

        answer.add_done_callback(release)


async def _read_clip(answer: bytes, task: Task, memory: FrameMemory) -> Clip:
    """Return the clip of an answer; copy many frames in a thread, where they hold up nobody."""
    read = partial(clip_from, answer, task.job, memory, task.times)
    if memory.size < COPIED_IN_THREAD_FROM:
        return read()
    copying = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(copying)
    finally:
        await asyncio.wait({copying})  # also when nobody wants it any more: the memory is in use
