"""One computation for many: whoever leaves, the others get theirs."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from service.inference.single_flight import SingleFlight


class Work:
    """Tasks that wait to be told how they end."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def start(self) -> asyncio.Task[int]:
        self.started += 1
        return asyncio.create_task(self._run())

    async def _run(self) -> int:
        try:
            return await asyncio.shield(self.result)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_task_serves_all() -> None:
    async def run() -> None:
        flight: SingleFlight[str, int] = SingleFlight()
        work = Work()
        waiters = [asyncio.create_task(flight.run("key", work.start)) for _ in range(5)]
        other = asyncio.create_task(flight.run("other", work.start))
        await settle()
        work.result.set_result(7)
        assert await asyncio.gather(*waiters, other) == [7] * 6
        assert work.started == 2

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_whoever_leaves_the_others_are_served(leaving: int) -> None:
    async def run() -> None:
        flight: SingleFlight[str, int] = SingleFlight()
        work = Work()
        waiters = [asyncio.create_task(flight.run("key", work.start)) for _ in range(3)]
        await settle()
        waiters.pop(leaving).cancel()
        await settle()
        work.result.set_result(7)
        assert await asyncio.gather(*waiters) == [7, 7]
        assert (work.started, work.cancelled) == (1, 0)

    asyncio.run(run())


def test_the_last_to_leave_ends_it_and_the_next_begins_anew() -> None:
    async def run() -> None:
        flight: SingleFlight[str, int] = SingleFlight()
        first, second = Work(), Work()
        waiters = [asyncio.create_task(flight.run("key", first.start)) for _ in range(2)]
        await settle()
        for waiter in waiters:
            waiter.cancel()
        # in the same moment, before the cancelled task has had its turn
        late = [asyncio.create_task(flight.run("key", second.start))]
        await settle()
        late.append(asyncio.create_task(flight.run("key", second.start)))
        await settle()
        assert first.cancelled == 1
        second.result.set_result(7)
        assert await asyncio.gather(*late) == [7, 7]
        assert second.started == 1

    asyncio.run(run())


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    async def run() -> None:
        flight: SingleFlight[str, int] = SingleFlight()
        bad, good = Work(), Work()
        waiters = [asyncio.create_task(flight.run("key", bad.start)) for _ in range(2)]
        await settle()
        bad.result.set_exception(ValueError("no"))
        answers = await asyncio.gather(*waiters, return_exceptions=True)
        assert [str(a) for a in answers] == ["no", "no"]
        good.result.set_result(7)
        assert await flight.run("key", good.start) == 7

    asyncio.run(run())


def test_a_failure_that_nobody_waits_for_is_silent() -> None:
    complaints: list[dict[str, Any]] = []

    async def stubborn() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while giving up") from None
        return 0

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        flight: SingleFlight[str, int] = SingleFlight()
        waiter = asyncio.create_task(flight.run("key", lambda: asyncio.create_task(stubborn())))
        await settle()
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        await settle()
        gc.collect()

    asyncio.run(run())
    assert complaints == []
