"""Videos in windows, each decoded by one worker of the pool. Parent side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from model.inputs.errors import VideoError
from model.inputs.spec import InputSpec
from service.decode.answer_validation import error_for
from service.decode.ending import Ending
from service.decode.errors import DecodeUnavailable
from service.decode.handover import Handover
from service.decode.innocence import may_be_innocent
from service.decode.job_queue import STOPPED, JobQueue
from service.decode.options import PoolOptions
from service.decode.process import WorkerExit, WorkerProcess
from service.decode.stats import PoolStats
from service.decode.window_protocol import WindowsJob
from service.decode.windows import Conversation, DecodedWindows, VideoBegun, frames_shape
from service.sharing.fair_places import FairPlaces

Part = VideoBegun | DecodedWindows


class WindowPool:
    """Decodes videos that take minutes: with half of the workers at most, the clients in turn."""

    def __init__(
        self,
        workers: int,
        spec: InputSpec,
        options: PoolOptions,
        queue: JobQueue,
        handover: Handover,
        stats: PoolStats,
    ) -> None:
        self._spec, self._options, self._stats = spec, options, stats
        self._queue, self._handover = queue, handover
        self._places = FairPlaces(max(1, workers // 2))

    @property
    def waiting(self) -> int:
        """How many videos wait for their turn."""
        return self._places.waiting

    async def decode(
        self, source: int | Path, job: WindowsJob, client: str
    ) -> AsyncGenerator[Part, None]:
        """Yield the windows of a video; see `DecodePool.windows`."""
        await self._places.take(client)
        with contextlib.ExitStack() as held:
            held.callback(self._places.give_back)
            self._stats.jobs += 1
            for is_last in (False, True):
                worker = await self._queue.acquire(None, client, first=is_last)
                lost: WorkerExit | None = None
                parts = self._talk(worker, source, job, held)
                async with aclosing(parts):
                    async for part in parts:
                        if isinstance(part, WorkerExit):
                            lost = part
                        else:
                            yield part
                if lost is None:
                    self._stats.decoded += 1
                    return
                if lost.ending is Ending.STOP:
                    raise DecodeUnavailable(STOPPED)
                if is_last or not may_be_innocent(lost, worker):
                    raise error_for(lost, self._options.max_decode_s, job.frame_rule)
                self._stats.retried += 1

    async def _talk(
        self,
        worker: WorkerProcess,
        source: int | Path,
        job: WindowsJob,
        held: contextlib.ExitStack,
    ) -> AsyncGenerator[Part | WorkerExit, None]:
        """Yield what one worker answers, or how it ended at once; then release the worker.

        One that is still at it, because nobody wants the rest any more, is told so, and ended where
        it does not stop soon: it would go on for minutes. What is `held` for it is so until then:
        videos that are left one upon the other would have every worker at one that nobody wants.
        """
        began, is_done = time.monotonic(), False
        talk: Conversation | None = None
        self._queue.set_aside(worker)
        try:
            with self._handover.memory(frames_shape(job, self._spec)) as memory:
                job = self._handover.threaded(job)
                talk = Conversation(worker, job, memory, self._options)
                begun = await talk.begin(self._handover.send(worker, source, job, memory))
                yield begun
                if isinstance(begun, VideoBegun):
                    async with aclosing(talk.batches()) as batches:
                        async for windows in batches:
                            yield windows
            is_done = True
        except DecodeUnavailable:
            is_done = True  # the worker has no job, or was stopped
            raise
        except VideoError:
            is_done = True  # the worker has said so, or has been ended
            self._stats.refused += worker.alive
            raise
        finally:
            self._stats.busy_s += time.monotonic() - began
            if is_done or talk is None:
                self._queue.release(worker)
            else:
                self._leave(worker, talk, held.pop_all())

    def _leave(self, worker: WorkerProcess, talk: Conversation, held: contextlib.ExitStack) -> None:
        """Release a worker once it has ended the job that nobody wants more of."""
        timer = asyncio.get_running_loop().call_later(
            self._options.cancel_grace_s, worker.end, Ending.CANCELLED
        )

        def left() -> None:
            timer.cancel()
            self._queue.release(worker)
            held.close()

        talk.leave(left)
