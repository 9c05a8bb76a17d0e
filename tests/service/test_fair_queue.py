"""Clients have their turns, whatever each of them asks for."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from service.sharing.fair_queue import FairQueue
from service.sharing.fair_threads import FairThreads


def queue_of(text: str) -> FairQueue[str]:
    """A queue of items such as a1: the first letter says whose."""
    queue: FairQueue[str] = FairQueue()
    for item in text.split():
        queue.put(item[0], item)
    return queue


def drained(queue: FairQueue[str]) -> str:
    items = []
    while taken := queue.take():
        items.append(taken[1])
    return " ".join(items)


@pytest.mark.parametrize(
    ("put", "taken"),
    [
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1 b2", "a1 b1 a2 b2 a3"),
        ("a1 a2 a3 a4 b1 c1 c2", "a1 b1 c1 a2 c2 a3 a4"),
        ("", ""),
    ],
)
def test_clients_take_turns_and_each_keeps_its_order(put: str, taken: str) -> None:
    queue = queue_of(put)
    assert len(queue) == len(put.split())
    assert drained(queue) == taken


def test_what_goes_first_and_what_leaves() -> None:
    queue = queue_of("a1 a2 b1 b2")
    queue.put("b", "b0", first=True)
    queue.remove("a", "a1")
    queue.remove("c", "c1")
    assert drained(queue) == "b0 a2 b1 b2"


def test_who_may_not_is_passed_over_and_keeps_his_turn() -> None:
    queue = queue_of("a1 a2 b1")
    assert queue.take(lambda client, item: client != "a") == ("b", "b1")
    assert queue.take(lambda client, item: item == "none such") is None
    assert drained(queue) == "a1 a2"


def test_of_a_client_the_first_that_may_is_taken() -> None:
    queue = queue_of("a1 b1 a2 a3")
    assert queue.take(lambda client, item: item not in {"a1", "b1"}) == ("a", "a2")
    assert queue.take(lambda client, item: item not in {"a1", "b1"}) == ("a", "a3")
    assert queue.take(lambda client, item: item not in {"a1", "b1"}) is None
    assert drained(queue) == "b1 a1"


def test_calls_of_clients_run_in_turn_and_those_left_do_not_run() -> None:
    async def run() -> None:
        threads, held, ran = FairThreads(1, "test"), threading.Event(), list[str]()
        busy = asyncio.ensure_future(threads.run(held.wait, "a"))
        calls = [
            asyncio.ensure_future(threads.run(partial(ran.append, name), name[0]))
            for name in ("a1", "a2", "a3", "b1", "b2")
        ]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(busy, *calls, return_exceptions=True)
        assert ran == ["a1", "b1", "b2", "a3"]
        await asyncio.to_thread(threads.close)
        with pytest.raises(RuntimeError):
            await threads.run(held.is_set)

    asyncio.run(run())


def test_what_waits_when_the_threads_end_is_cancelled() -> None:
    async def run() -> None:
        threads, held = FairThreads(1, "test"), threading.Event()
        busy = asyncio.ensure_future(threads.run(held.wait))
        waiting = asyncio.ensure_future(threads.run(held.is_set))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(threads.close))
        held.set()
        await closing
        await asyncio.gather(busy, waiting, return_exceptions=True)
        assert waiting.done()

    asyncio.run(run())


def test_a_client_alone_leaves_half_of_the_threads_to_others() -> None:
    async def scenario() -> None:
        threads, held, started = FairThreads(2, "test"), threading.Event(), list[int]()

        def long(number: int) -> None:
            started.append(number)
            held.wait()

        own = [asyncio.create_task(threads.run(partial(long, n), "much")) for n in range(3)]
        for n in range(3):  # each finds a thread free of what the other client holds
            assert await threads.run(partial(int, n), "little") == n
        assert started == [0]
        held.set()
        await asyncio.gather(*own)
        assert started == [0, 1, 2]
        threads.close()

    asyncio.run(scenario())
