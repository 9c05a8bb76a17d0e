"""One computation for many: whoever leaves, the others get theirs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any

import pytest

from service.cache.single_flight import SingleFlight

Flight = SingleFlight[str, int]


class Work:
    """Tasks that wait to be told how they end: with this value for each of their keys."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []
        self.cancelled = 0
        self.result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def start(self, keys: list[str]) -> asyncio.Task[Mapping[str, int]]:
        self.started.append(keys)
        return asyncio.create_task(self._run(keys))

    async def _run(self, keys: list[str]) -> Mapping[str, int]:
        try:
            return dict.fromkeys(keys, await asyncio.shield(self.result))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_task_serves_all() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        work = Work()
        waiters = [asyncio.create_task(flight.run(["key"], work.start)) for _ in range(5)]
        other = asyncio.create_task(flight.run(["other"], work.start))
        await settle()
        work.result.set_result(7)
        assert await asyncio.gather(*waiters, other) == [{"key": 7}] * 5 + [{"other": 7}]
        assert work.started == [["key"], ["other"]]

    asyncio.run(run())


def test_nothing_is_kept_of_what_is_done_beside_what_another_computes() -> None:
    """Who asks for something new and, behind it, for what is under way."""

    async def run() -> None:
        flight: Flight = SingleFlight()
        first, second = Work(), Work()
        waiters = [
            asyncio.create_task(flight.run(["b"], first.start)),
            asyncio.create_task(flight.run(["a", "b"], second.start)),
        ]
        await settle()
        second.result.set_result(1)
        await settle()
        assert flight._flights.keys() == {"b"}
        first.result.set_result(2)
        assert await asyncio.gather(*waiters) == [{"b": 2}, {"a": 1, "b": 2}]
        await settle()
        assert not flight._flights

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_whoever_leaves_the_others_are_served(leaving: int) -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        work = Work()
        waiters = [asyncio.create_task(flight.run(["key"], work.start)) for _ in range(3)]
        await settle()
        waiters.pop(leaving).cancel()
        await settle()
        work.result.set_result(7)
        assert await asyncio.gather(*waiters) == [{"key": 7}] * 2
        assert (len(work.started), work.cancelled) == (1, 0)

    asyncio.run(run())


def test_the_last_to_leave_ends_it_and_the_next_begins_anew() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        first, second = Work(), Work()
        waiters = [asyncio.create_task(flight.run(["key"], first.start)) for _ in range(2)]
        await settle()
        for waiter in waiters:
            waiter.cancel()
        # in the same moment, before the cancelled task has had its turn
        late = [asyncio.create_task(flight.run(["key"], second.start))]
        await settle()
        late.append(asyncio.create_task(flight.run(["key"], second.start)))
        await settle()
        assert first.cancelled == 1
        second.result.set_result(7)
        assert await asyncio.gather(*late) == [{"key": 7}] * 2
        assert len(second.started) == 1

    asyncio.run(run())


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        bad, good = Work(), Work()
        waiters = [asyncio.create_task(flight.run(["key"], bad.start)) for _ in range(2)]
        await settle()
        bad.result.set_exception(ValueError("no"))
        answers = await asyncio.gather(*waiters, return_exceptions=True)
        assert [str(a) for a in answers] == ["no", "no"]
        good.result.set_result(7)
        assert await flight.run(["key"], good.start) == {"key": 7}

    asyncio.run(run())


def test_a_failure_that_nobody_waits_for_is_silent() -> None:
    complaints: list[dict[str, Any]] = []

    async def stubborn() -> Mapping[str, int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while giving up") from None
        return {}

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        flight: Flight = SingleFlight()
        waiter = asyncio.create_task(flight.run(["key"], lambda _: asyncio.create_task(stubborn())))
        await settle()
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        await settle()
        gc.collect()

    asyncio.run(run())
    assert complaints == []


def test_of_overlapping_lists_each_key_is_computed_once() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        work = Work()
        first = asyncio.create_task(flight.run(["a", "b"], work.start))
        await settle()
        second = asyncio.create_task(flight.run(["c", "b"], work.start))
        await settle()
        work.result.set_result(7)
        assert await first == {"a": 7, "b": 7}
        assert await second == {"b": 7, "c": 7}
        assert work.started == [["a", "b"], ["c"]]

    asyncio.run(run())


def test_a_failure_for_somebody_elses_keys_is_not_ours() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        bad, good = Work(), Work()
        first = asyncio.create_task(flight.run(["bad", "b"], bad.start))
        await settle()
        second = asyncio.create_task(flight.run(["b", "c"], good.start))
        await settle()
        bad.result.set_exception(ValueError("no"))
        good.result.set_result(7)
        with pytest.raises(ValueError, match="no"):
            await first
        assert await second == {"b": 7, "c": 7}
        assert good.started == [["c"], ["b"]]

    asyncio.run(run())


def test_whoever_comes_in_the_moment_of_somebody_elses_failure_begins_anew() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight()
        bad, good = Work(), Work()

        async def late(turns: int) -> dict[str, int]:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await flight.run(["b"], good.start)

        first = asyncio.create_task(flight.run(["bad", "b"], bad.start))
        await settle()
        bad.result.set_exception(ValueError("no"))
        good.result.set_result(7)
        answers = await asyncio.gather(*(late(turns) for turns in range(8)))
        assert answers == [{"b": 7}] * 8
        with pytest.raises(ValueError, match="no"):
            await first

    asyncio.run(run())


def test_who_waits_for_another_client_computes_for_himself_after_a_while() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight(patience_s=0)
        slow, own = Work(), Work()
        first = asyncio.create_task(flight.run(["a", "b"], slow.start, "alice"))
        await settle()
        second = asyncio.create_task(flight.run(["b"], own.start, "bob"))
        while not own.started:
            await asyncio.sleep(0)
        third = asyncio.create_task(flight.run(["b"], own.start, "bob"))  # joins his own
        await settle()
        own.result.set_result(7)
        assert await second == await third == {"b": 7}
        assert not first.done()
        slow.result.set_result(8)
        assert await first == {"a": 8, "b": 8}
        assert (slow.started, own.started) == ([["a", "b"]], [["b"]])
        assert not flight._flights

    asyncio.run(run())


def test_whichever_is_done_first_is_the_answer_and_the_other_is_given_up() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight(patience_s=0)
        first_work, own = Work(), Work()
        first = asyncio.create_task(flight.run(["a"], first_work.start, "alice"))
        await settle()
        second = asyncio.create_task(flight.run(["a"], own.start, "bob"))
        while not own.started:
            await asyncio.sleep(0)
        first_work.result.set_result(7)
        assert await first == await second == {"a": 7}
        await settle()
        assert own.cancelled == 1
        assert not flight._flights

    asyncio.run(run())


@pytest.mark.parametrize("patience_s", [0, 3600])
def test_who_waits_does_not_fall_with_the_other(patience_s: float) -> None:
    """Another client's task was cancelled, or failed for what was his alone."""

    async def run() -> None:
        flight: Flight = SingleFlight(patience_s)
        bad, good = Work(), Work()
        first = asyncio.create_task(flight.run(["a", "b"], bad.start, "alice"))
        await settle()
        second = asyncio.create_task(flight.run(["b"], good.start, "bob"))
        await settle()
        flight._flights["a"].task.cancel()
        good.result.set_result(7)
        assert await second == {"b": 7}
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())


def test_one_clients_requests_wait_for_each_other_however_long() -> None:
    async def run() -> None:
        flight: Flight = SingleFlight(patience_s=0)
        work = Work()
        waiters = [asyncio.create_task(flight.run(["a"], work.start, "alice")) for _ in range(3)]
        for _ in range(50):
            await asyncio.sleep(0)
        work.result.set_result(7)
        assert await asyncio.gather(*waiters) == [{"a": 7}] * 3
        assert work.started == [["a"]]

    asyncio.run(run())
