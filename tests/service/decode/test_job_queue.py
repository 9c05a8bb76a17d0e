"""The job queue on its own: moments between two steps of the event loop that a real pool meets by
chance.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from service.decode.job_queue import JobQueue
from service.decode.stats import PoolStats


class OneWorker:
    """A supervisor with one worker that never fails."""

    alive = True

    def __init__(self) -> None:
        self.idle = ["worker"]
        self.on_change = None

    def take(self) -> str | None:
        return self.idle.pop() if self.idle else None

    def give_back(self, worker: str) -> None:
        self.idle.append(worker)


def test_a_worker_that_comes_free_is_not_given_to_one_just_cancelled() -> None:
    """Its future is cancelled at once, but it leaves the queue only when its task runs."""

    async def scenario() -> None:
        queue = JobQueue(cast(Any, OneWorker()), size=1, spares=0, stats=PoolStats())
        held = await queue.acquire(None)
        leaving = asyncio.create_task(queue.acquire(None))
        staying = asyncio.create_task(queue.acquire(None))
        await asyncio.sleep(0)
        assert queue.waiting == 2
        leaving.cancel()
        queue.release(held)
        assert await staying == held
        assert leaving.cancelled()
        queue.release(held)
        assert queue.running == queue.waiting == 0

    asyncio.run(scenario())


def test_a_worker_given_before_the_cancellation_goes_back() -> None:
    async def scenario() -> None:
        queue = JobQueue(cast(Any, OneWorker()), size=1, spares=0, stats=PoolStats())
        held = await queue.acquire(None)
        leaving = asyncio.create_task(queue.acquire(None))
        await asyncio.sleep(0)
        queue.release(held)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert queue.running == 0
        assert await queue.acquire(None) == held

    asyncio.run(scenario())


def test_beside_a_video_in_windows_large_clips_leave_a_worker_too() -> None:
    async def scenario() -> None:
        supervisor = OneWorker()
        supervisor.idle = ["first", "second", "third"]
        queue = JobQueue(cast(Any, supervisor), size=2, spares=1, stats=PoolStats())
        queue.set_aside(await queue.acquire(None, "video"))
        await queue.acquire(None, "large", large=True)
        waiting = asyncio.create_task(queue.acquire(None, "another", large=True))
        await asyncio.sleep(0)
        small = await queue.acquire(None, "small")
        assert queue.waiting == 1
        queue.release(small)
        assert queue.waiting == 1
        assert await queue.acquire(None, "small") == small
        waiting.cancel()

    asyncio.run(scenario())


def test_a_clip_that_was_put_off_holds_up_none_of_its_client() -> None:
    """One worker and a spare, beside a video in windows."""

    async def scenario() -> None:
        supervisor = OneWorker()
        supervisor.idle = ["first", "second"]
        queue = JobQueue(cast(Any, supervisor), size=1, spares=1, stats=PoolStats())
        video = await queue.acquire(None, "somebody")
        queue.set_aside(video)
        large = asyncio.create_task(queue.acquire(None, "somebody", large=True))
        await asyncio.sleep(0)
        small = await queue.acquire(None, "somebody")
        assert queue.waiting == 1
        queue.release(small)
        assert queue.waiting == 1
        queue.release(video)
        queue.release(await large)

    asyncio.run(scenario())
