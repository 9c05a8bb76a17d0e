"""A limit on others' time does not count the time for which our own event loop stood still."""

from __future__ import annotations

import asyncio

import pytest

from service.cache.redis.timeouts import within
from tests.service.redis.conftest import PATIENT_S, hold_up_the_loop

LIMIT_S = PATIENT_S
TURNS = 5  # of the loop, as reading a large answer takes


def test_an_answer_that_came_while_the_loop_stood_still_is_read() -> None:
    async def work() -> str:
        hold_up_the_loop(LIMIT_S + 1)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return "answer"

    assert asyncio.run(within(LIMIT_S, work())) == "answer"


def test_what_never_comes_is_given_up_and_cancelled() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await within(0.01, work())
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert cancelled


def test_an_error_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        asyncio.run(within(LIMIT_S, work()))
