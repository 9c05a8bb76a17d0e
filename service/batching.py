"""Clips that wait together are encoded together. V views of a clip count as V clips.

Nothing waits for company: whenever the lane is free, it takes what has gathered while it was busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.lane import Lane

Frames = NDArray[np.uint8]
Features = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Encoded:
    """Features (V,…) of one request's views, the seconds it waited and those of its batch."""

    features: Features
    queued_s: float
    ran_s: float


@dataclass
class _Job:
    frames: Frames
    answer: Future[Encoded] = field(default_factory=Future)
    asked: float = field(default_factory=time.perf_counter)


class VideoBatcher:
    """Puts clips on the lane, at most `max_clips` at a time unless one request alone has more."""

    def __init__(
        self,
        lane: Lane,
        encode: Callable[[Frames], Features],
        max_clips: int,
        on_batch: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._lane, self._encode, self._max_clips = lane, encode, max_clips
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()

    async def encode(self, frames: Frames) -> Encoded:
        """Encode views (V,T,H,W,3). A caller who leaves takes along what has not begun."""
        job = _Job(frames)
        self._waiting.append(job)
        # By the end of its own turn at the latest a job has been taken. A turn whose caller has
        # left is let run: it may serve others, and costs nothing when there are none.
        turn = asyncio.ensure_future(self._lane.run(self._take_turn))
        turn.add_done_callback(lambda turn: _send_away(job, turn))
        return await asyncio.wrap_future(job.answer)

    # --- on the lane's thread ----------------------------------------------------------------

    def _take_turn(self) -> None:
        jobs = self._claim()
        if jobs:
            self._run(jobs)

    def _claim(self) -> list[_Job]:
        """The next jobs that somebody still waits for, in order."""
        jobs: list[_Job] = []
        clips = 0
        while self._waiting and (
            not jobs or clips + len(self._waiting[0].frames) <= self._max_clips
        ):
            job = self._waiting.popleft()
            if job.answer.set_running_or_notify_cancel():
                jobs.append(job)
                clips += len(job.frames)
        return jobs

    def _run(self, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            parts = self._encode_all(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                raise  # the lane counts its failures
            for job in jobs:  # each alone, so that one bad clip fails alone
                with contextlib.suppress(Exception):
                    self._run([job])
            return
        ran = time.perf_counter() - started
        self._on_batch(sum(len(job.frames) for job in jobs))
        for job, features in zip(jobs, parts, strict=True):
            job.answer.set_result(Encoded(features, started - job.asked, ran))

    def _encode_all(self, jobs: list[_Job]) -> list[Features]:
        if len(jobs) == 1:
            return [self._encode(jobs[0].frames)]
        together = self._encode(np.concatenate([job.frames for job in jobs]))
        ends = np.cumsum([len(job.frames) for job in jobs])
        return [
            # copies: a kept slice would keep the whole batch
            {name: array[end - len(job.frames) : end].copy() for name, array in together.items()}
            for job, end in zip(jobs, ends, strict=True)
        ]


def _send_away(job: _Job, turn: asyncio.Future[Any]) -> None:
    """Let nobody wait for a turn that never was, because the lane has ended."""
    if turn.cancelled() or turn.exception() is not None:
        job.answer.cancel()
