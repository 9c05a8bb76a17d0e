"""Videos in windows: one worker each, which is asked for batch after batch. Parent side."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal

from model.inputs.clip import Pixels, VideoInfo
from model.inputs.spec import InputSpec
from model.inputs.windows import Cut
from service.decode.answer_validation import BadAnswer, error_for, refusal
from service.decode.ending import OUT_OF_TIME, Ending
from service.decode.errors import DecodeUnavailable
from service.decode.frame_memory import COPIED_IN_THREAD_FROM, FrameMemory, Shape
from service.decode.job_queue import STOPPED
from service.decode.options import MOST_WINDOWS, PoolOptions
from service.decode.process import WorkerExit, WorkerProcess
from service.decode.protocol import MAX_FRAMES_PER_JOB, Cancel, Failed, Refused
from service.decode.window_protocol import (
    Begun,
    Finished,
    Next,
    WindowBatch,
    WindowsAnswer,
    WindowsJob,
    WindowTimes,
    parse_windows_answer,
)

log = logging.getLogger(__name__)

SLACK_S = 2e-3  # windows are told to the millisecond

Packet = bytes | WorkerExit


@dataclass(frozen=True)
class VideoBegun:
    """Facts of a video that is being read, and how many windows are expected."""

    info: VideoInfo
    windows: int


@dataclass(frozen=True)
class DecodedWindows:
    """The next windows: their frames, uint8 (n, T, H, W, 3), and where each lies."""

    frames: Pixels
    times: tuple[WindowTimes, ...]


def windows_job(
    cut: Cut,
    spec: InputSpec,
    options: PoolOptions,
    *,
    batch: int,
    start: float | None = None,
    end: float | None = None,
    frame_rule: Literal["exact", "keyframes"] = "exact",
) -> WindowsJob:
    """Make the job; its batch is as large as the shared memory of a worker and a message may be."""
    most = min(options.max_views, MAX_FRAMES_PER_JOB // spec.num_frames)
    return WindowsJob(
        ticket=secrets.token_hex(8),
        window_s=cut.window_s,
        stride_s=cut.stride_s,
        max_windows=min(cut.most, MOST_WINDOWS),
        batch=max(1, min(batch, most)),
        start=start,
        end=end,
        frame_rule=frame_rule,
    )


def frames_shape(job: WindowsJob, spec: InputSpec) -> Shape:
    """Return the shape of the frames that the memory of a job has room for."""
    return (job.batch, spec.num_frames, spec.image_size, spec.image_size, 3)


def limit_s(length_s: float, options: PoolOptions) -> float:
    """Return the seconds that decoding a video of this length may take."""
    return min(options.max_decode_s + length_s, options.max_timeline_s)


class Conversation:
    """What the parent and a worker say about one video; whatever the worker says is checked.

    The time limit counts while the worker has the word: `max_decode_s`, and as long as the video is
    on top, `max_timeline_s` at most.

    Args:
        worker: It has the job, and nothing has been heard of it.
        job: What it was asked.
        memory: Where it puts frames.
        options: The limits.
    """

    def __init__(
        self, worker: WorkerProcess, job: WindowsJob, memory: FrameMemory, options: PoolOptions
    ) -> None:
        self._worker, self._job, self._memory, self._options = worker, job, memory, options
        self._limit_s = options.max_decode_s
        self._spent_s = 0.0
        self._left = job.max_windows
        self._answer: asyncio.Future[Packet] | None = None  # that nobody has heard
        self._latest_s = 0.0

    async def begin(self, answer: asyncio.Future[Packet]) -> VideoBegun | WorkerExit:
        """Return what the worker answers to the job, or how it ended instead.

        Raises:
            VideoError: The worker refused the video, or was lost over it.
        """
        packet = await self._heard(answer)
        if isinstance(packet, WorkerExit) and packet.ending not in OUT_OF_TIME:
            return packet
        message = self._checked(packet)
        if not isinstance(message, Begun) or not self._is_of_job(message):
            raise self._bad(Ending.GARBAGE)
        self._limit_s = limit_s(message.info.duration_s or 0.0, self._options)
        self._worker.limit_cpu(self._limit_s * self._job.threads)
        return VideoBegun(message.info, message.windows)

    async def batches(self) -> AsyncGenerator[DecodedWindows, None]:
        """Yield the windows as they come; the worker is at the next ones meanwhile.

        Raises:
            VideoError: As of `begin`.
        """
        answer = self._ask()
        while True:
            message = self._checked(await self._heard(answer))
            if isinstance(message, Finished):
                return
            if not isinstance(message, WindowBatch):
                raise self._bad(Ending.GARBAGE)
            windows = await self._windows(message)
            answer = self._ask()
            yield windows

    def leave(self, left: Callable[[], None]) -> None:
        """Have the worker end the job before its time, and call `left` when it has, or is gone."""

        def heard(answer: asyncio.Future[Packet]) -> None:
            if self._says_more(answer.result()):  # before it was told
                self._worker.hear().add_done_callback(heard)
            else:
                left()

        self._worker.tell(Cancel(ticket=self._job.ticket).to_bytes())
        answer = self._worker.hear() if self._answer is None else self._answer
        if answer.done():  # at once: the worker may have said more before a callback is called
            heard(answer)
        else:
            answer.add_done_callback(heard)

    def _says_more(self, packet: Packet) -> bool:
        """Return whether more will come from the worker; end one that makes no sense."""
        if isinstance(packet, WorkerExit):
            return False
        try:
            message = parse_windows_answer(packet)
        except ValueError:
            self._worker.end(Ending.GARBAGE)
            return False
        if isinstance(message, Failed):
            self._worker.end(Ending.FAILED)
        elif message.ticket != self._job.ticket:
            self._worker.end(Ending.GARBAGE)
        return self._worker.alive and isinstance(message, Begun | WindowBatch)

    def _is_of_job(self, begun: Begun) -> bool:
        info, job = begun.info, self._job
        right = info.frame_rule == job.frame_rule and not info.frame_times_s
        return right and begun.windows <= job.max_windows

    def _ask(self) -> asyncio.Future[Packet]:
        self._answer = self._worker.ask(Next(ticket=self._job.ticket).to_bytes())
        return self._answer

    async def _heard(self, answer: asyncio.Future[Packet]) -> Packet:
        self._answer, began = answer, time.monotonic()
        await asyncio.wait({answer}, timeout=max(0.0, self._limit_s - self._spent_s))
        self._spent_s += time.monotonic() - began
        if not answer.done():
            self._worker.end(Ending.TIMEOUT)
            return WorkerExit(Ending.TIMEOUT, 0)
        self._answer = None
        return answer.result()

    def _checked(self, packet: Packet) -> WindowsAnswer:
        """Return a message that belongs to the job; raise a VideoError for a refusal or an end."""
        if isinstance(packet, WorkerExit):
            raise self._lost(packet)
        try:
            message = parse_windows_answer(packet)
        except ValueError:
            raise self._bad(Ending.GARBAGE) from None
        if isinstance(message, Failed):
            log.error("decoding failed in a worker: %r", message.what)
            raise self._bad(Ending.FAILED)
        if message.ticket != self._job.ticket:
            raise self._bad(Ending.GARBAGE)
        if isinstance(message, Refused):
            try:
                raise refusal(message)
            except BadAnswer as bad:
                raise self._bad(bad.ending) from None
        return message

    async def _windows(self, batch: WindowBatch) -> DecodedWindows:
        count = len(batch.windows)
        self._left -= count
        if count > self._job.batch or self._left < 0:
            raise self._bad(Ending.GARBAGE)
        for window in batch.windows:
            if not self._is_next(window):
                raise self._bad(Ending.GARBAGE)
            self._latest_s = window.start_s
        try:
            frames = await _copied(self._memory)
        except OSError:  # the worker made the memory smaller
            raise self._bad(Ending.GARBAGE) from None
        return DecodedWindows(frames[:count], batch.windows)

    def _is_next(self, window: WindowTimes) -> bool:
        inside = all(
            window.start_s - SLACK_S <= time_s <= window.end_s + SLACK_S
            for time_s in window.times_s
        )
        length_s = window.end_s - window.start_s
        return (
            inside
            and len(window.times_s) == self._memory.shape[1]
            and window.start_s >= self._latest_s
            and 0 <= length_s <= self._job.window_s + SLACK_S
        )

    def _bad(self, ending: Ending) -> Exception:
        self._worker.end(ending)
        return self._lost(WorkerExit(ending, 0))

    def _lost(self, exited: WorkerExit) -> Exception:
        if exited.ending is Ending.STOP:
            return DecodeUnavailable(STOPPED)
        return error_for(exited, self._limit_s, self._job.frame_rule)


async def _copied(memory: FrameMemory) -> Pixels:
    """Copy the frames out; many of them in a thread, where they hold up nobody."""
    if memory.size < COPIED_IN_THREAD_FROM:
        return memory.frames()
    copying = asyncio.ensure_future(asyncio.to_thread(memory.frames))
    try:
        return await asyncio.shield(copying)
    finally:
        await asyncio.wait({copying})  # also when nobody wants it any more: the memory is in use
