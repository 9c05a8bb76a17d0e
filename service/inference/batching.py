"""What waits together runs together: clips through the video encoder, and anything else alike.

Nothing waits for company: whenever the thread is free, it takes what has gathered meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from export.runtime import DeviceMemoryError, Features, split_features
from service.inference.inference_thread import InferenceThread

Frames = NDArray[np.uint8]
Work = TypeVar("Work")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Timed(Generic[Answer]):
    """One answer, the seconds that its work waited, and those that its batch ran."""

    answer: Answer
    queued_s: float
    ran_s: float


@dataclass(eq=False)
class _Job(Generic[Work, Answer]):
    work: Work
    client: str = ""
    answer: Future[Timed[Answer]] = field(default_factory=Future)
    asked: float = field(default_factory=time.perf_counter)
    claimed: bool = False


class Batcher(Generic[Work, Answer]):
    """Puts work on the thread, a batch a turn: the clients in turn, and with the work whose turn it
    is whatever else waits and fits, of the clients in turn.

    `run` answers a list of works, each with its own; `size` says how much such a list is: at most
    `limit`, unless one work alone is more. A batch that fails is run again in parts, so that one
    bad work fails alone; after one that did not fit the device's memory the limit is lower. Each
    client is charged for its part of a batch, by size.
    """

    def __init__(
        self,
        thread: InferenceThread,
        run: Callable[[list[Work]], Sequence[Answer]],
        size: Callable[[list[Work]], int],
        limit: int,
    ) -> None:
        self._thread, self._call, self._size = thread, run, size
        self.limit = limit
        self._waiting: deque[_Job[Work, Answer]] = deque()

    async def submit(self, work: Work, client: str = "", *, first: bool = False) -> Timed[Answer]:
        """Return the answer to one work of a client; `first` goes before all others.

        A caller who leaves takes along what has not begun.
        """
        job = _Job[Work, Answer](work, client)
        self._waiting.append(job)
        # By the end of its own turn at the latest a job has been taken. A turn whose caller has
        # left is let run: it may serve others, and costs nothing when there are none.
        turn = asyncio.ensure_future(
            self._thread.run(lambda: self._take_turn(job), client, first=first)
        )
        turn.add_done_callback(lambda turn: fail_job(job, turn))
        try:
            return await asyncio.wrap_future(job.answer)
        finally:
            self._waiting.remove(job)

    # --- on the inference thread ----------------------------------------------------------------

    def _take_turn(self, job: _Job[Work, Answer]) -> None:
        jobs = self._claim(job)
        if jobs:
            self._run(jobs)

    def _claim(self, first: _Job[Work, Answer]) -> list[_Job[Work, Answer]]:
        """Take a job, unless it has gone with another, and those that fit beside it: of each client
        one, then of each a second, and so on.

        Only what somebody still waits for is taken.
        """
        jobs: list[_Job[Work, Answer]] = []
        if self._begin(first):
            jobs.append(first)
            taken = Counter((first.client,))

            def turn_of(job: _Job[Work, Answer]) -> int:
                taken[job.client] += 1
                return taken[job.client]

            waiting = [job for job in tuple(self._waiting) if not job.claimed]
            for job in sorted(waiting, key=turn_of):
                if not self._fits([*jobs, job]):
                    break
                if self._begin(job):
                    jobs.append(job)
        return jobs

    def _begin(self, job: _Job[Work, Answer]) -> bool:
        """Claim a job, if it has not begun and somebody waits for it."""
        if job.claimed or not job.answer.set_running_or_notify_cancel():
            return False
        job.claimed = True
        return True

    def _fits(self, jobs: list[_Job[Work, Answer]]) -> bool:
        return self._size([job.work for job in jobs]) <= self.limit

    def _run(self, jobs: list[_Job[Work, Answer]]) -> None:
        started = time.perf_counter()
        try:
            answers = self._charged(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                raise  # the thread counts its failures
            for part in self._parts(jobs, error):
                with contextlib.suppress(Exception):
                    self._run(part)
            return
        ran = time.perf_counter() - started
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(Timed(answer, started - job.asked, ran))

    def _charged(self, jobs: list[_Job[Work, Answer]]) -> Sequence[Answer]:
        began = time.perf_counter()
        try:
            return self._call([job.work for job in jobs])
        finally:
            seconds = time.perf_counter() - began
            sizes = [self._size([job.work]) for job in jobs]
            for job, size in zip(jobs, sizes, strict=True):
                self._thread.charge(job.client, seconds * size / sum(sizes))

    def _parts(
        self, jobs: list[_Job[Work, Answer]], error: Exception
    ) -> list[list[_Job[Work, Answer]]]:
        """Cut up a failed batch to try it again: each alone, or halves where it was too large."""
        if not isinstance(error, DeviceMemoryError):
            return [[job] for job in jobs]
        self.limit = max(1, self._size([job.work for job in jobs]) // 2)
        log = structlog.get_logger("service")
        log.warning("a batch did not fit", limit=self.limit, error=str(error))
        half = len(jobs) // 2
        return [jobs[:half], jobs[half:]]


class VideoBatcher:
    """Encodes clips, at most `max_clips` at a time unless one request alone has more.

    V views of a clip count as V clips. `on_batch` is told how many went together.
    """

    def __init__(
        self,
        thread: InferenceThread,
        encode: Callable[[Frames], Features],
        max_clips: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._encode, self._on_batch = encode, on_batch
        self._batches = Batcher(thread, self._run, _clips, max_clips)

    async def encode(self, frames: Frames, client: str = "") -> Timed[Features]:
        """Encode the views of a clip: uint8 (V,T,H,W,3) to named features (V,…)."""
        return await self._batches.submit(frames, client)

    def _run(self, clips: list[Frames]) -> list[Features]:
        together = clips[0] if len(clips) == 1 else np.concatenate(clips)
        features = split_features(self._encode(together), [len(views) for views in clips])
        self._on_batch(len(together))
        return features


def _clips(clips: list[Frames]) -> int:
    return sum(len(views) for views in clips)


def fail_job(job: _Job[Any, Any], turn: asyncio.Future[Any]) -> None:
    """Cancel a job whose turn never came, because the thread has ended."""
    if turn.cancelled() or turn.exception() is not None:
        job.answer.cancel()
