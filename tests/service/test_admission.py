"""Who gets in, and what the others are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from typing import Any

import pytest

from service.access import admission as under_test
from service.access import receiving
from service.access.admission import Admission
from service.contract.errors import LONGEST_RETRY_S, ApiError
from service.sharing import lately, shares
from service.sharing.lately import Lately


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(under_test, "time", made)
    for module in (shares, receiving):
        monkeypatch.setattr(module, "time", made)
    return made


def answer(
    admission: Admission, clock: Clock, seconds: float, times: int, client: str = "somebody"
) -> None:
    """So many requests of one client, one after the other."""
    for _ in range(times):
        with admission.work(client), admission.paced(client):
            clock.now += seconds


def test_places_are_counted_and_given_back() -> None:
    admission = Admission(2, 1, 60)
    with admission.upload("somebody"):
        with pytest.raises(ApiError, match="1 uploads"), admission.upload("somebody"):
            pass
        assert admission.in_flight == 1
    with admission.work("somebody"), admission.work("other"):
        for enter in (partial(admission.work, "third"), partial(admission.upload, "somebody")):
            with pytest.raises(ApiError) as refusal, enter():
                pass
            assert refusal.value.code == "queue_full"
    assert admission.in_flight == 0


def test_a_place_is_given_back_after_a_failure() -> None:
    admission = Admission(1, 1, 60)
    for enter in (partial(admission.upload, "somebody"), partial(admission.work, "somebody")):
        with pytest.raises(RuntimeError), enter():
            raise RuntimeError
    assert admission.in_flight == 0


def test_one_client_leaves_places_to_the_others() -> None:
    admission = Admission(9, 9, 60, max_uploads_per_client=2)
    with admission.upload("greedy"), admission.upload("greedy"):
        with pytest.raises(ApiError, match="2 uploads of yours"), admission.upload("greedy"):
            pass
        with admission.upload("modest"):
            assert admission.uploading == 3
    with admission.upload("greedy"):
        assert admission.uploading == 1


def test_one_client_takes_half_of_the_places_and_less_where_others_have_some() -> None:
    admission = Admission(8, 8, 60)
    for place in (admission.upload, admission.work):
        with contextlib.ExitStack() as held:
            for _ in range(4):
                held.enter_context(place("greedy"))
            with pytest.raises(ApiError, match=r"4 .* of yours") as refusal, place("greedy"):
                pass
            assert refusal.value.code == "queue_full"
            for _ in range(2):  # a third of eight, where two clients hold some
                held.enter_context(place("modest"))
            with pytest.raises(ApiError, match=r"2 .* of yours"), place("modest"):
                pass
            held.enter_context(place("third"))  # and there is one left for who comes next
            held.enter_context(place("fourth"))


def test_one_client_has_half_of_the_seconds_until_the_deadline_and_less_beside_others(
    clock: Clock,
) -> None:
    admission = Admission(100, 100, deadline_s=20)
    for client in ("greedy", "modest", "third", "fourth"):
        answer(admission, clock, 2, 1, client)
    with contextlib.ExitStack() as queue:
        for _ in range(5):  # of 2 s each
            queue.enter_context(admission.work("greedy"))
        for enter in (partial(admission.work, "greedy"), partial(admission.upload, "greedy")):
            with pytest.raises(ApiError, match="5 requests of yours are waiting") as refusal:
                queue.enter_context(enter())
            assert refusal.value.code == "queue_full"
        for client in ("modest", "third"):  # 20 // 3 and 20 // 4 seconds
            for _ in range({"modest": 3, "third": 2}[client]):
                queue.enter_context(admission.work(client))
            with pytest.raises(ApiError, match="of yours are waiting"):
                queue.enter_context(admission.work(client))
        # All of the seconds are taken, and yet who comes new is served, for his turn comes first.
        queue.enter_context(admission.work("fourth"))


def test_dear_requests_make_the_share_of_nobody_else_smaller(clock: Clock) -> None:
    """One that takes 8 s is always under way; who asks for little, and seldom, asks at once."""
    admission = Admission(64, 64, deadline_s=60)
    answer(admission, clock, 0.1, 1, "modest")
    for _ in range(10):
        answer(admission, clock, 8, 1, "dear")
        with admission.work("dear"), contextlib.ExitStack() as burst:
            for client in 12 * ["modest"] + 4 * ["stranger"]:
                burst.enter_context(admission.work(client))
            with admission.paced("modest"):
                clock.now += 0.1
    with contextlib.ExitStack() as queue:
        for _ in range(3):
            queue.enter_context(admission.work("dear"))
        with pytest.raises(ApiError, match="3 requests of yours"):
            queue.enter_context(admission.work("dear"))


def test_who_takes_what_is_remembered_of_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lately, "MOST_CLIENTS", 2)
    takes = Lately()
    for client, seconds in (("one", 1.0), ("two", 3.0), ("one", 2.0), ("three", 6.0)):
        takes.note(client, seconds)
    assert [takes.known(client) for client in ("one", "two", "three")] == [1.5, 0.0, 6.0]
    assert takes.expected("one") == 1.5
    assert takes.expected("two") == 3.0  # as all have had


def test_stuck_is_where_all_places_are_taken_and_none_comes_free(clock: Clock) -> None:
    admission = Admission(2, 2, 60)
    with admission.work("one"):
        with admission.work("other"):
            assert not admission.stuck
            clock.now += under_test.STUCK_AFTER_S + 1
            assert admission.stuck
        assert not admission.stuck
        with admission.work("other"):
            assert not admission.stuck


def test_senders_take_no_place_from_work() -> None:
    admission = Admission(1, 50, 60)
    with contextlib.ExitStack() as uploads:
        for number in range(50):
            uploads.enter_context(admission.upload(f"client {number}"))
        with admission.work("somebody"):
            pass


def test_who_would_be_too_late_is_refused_at_once(clock: Clock) -> None:
    admission = Admission(100, 100, deadline_s=10)
    answer(admission, clock, seconds=2, times=200)
    with contextlib.ExitStack() as queue:
        for number in range(6):  # 5 × 2 s before the last: just in time
            queue.enter_context(admission.work(f"client {number}"))
        with pytest.raises(ApiError, match="6 requests are waiting") as refusal:
            queue.enter_context(admission.work("somebody"))
        assert refusal.value.retry_after_s == 12


def test_time_without_work_is_not_counted(clock: Clock) -> None:
    admission = Admission(100, 100, deadline_s=10)
    for _ in range(50):
        answer(admission, clock, seconds=0.01, times=1)
        clock.now += 3600
    with contextlib.ExitStack() as queue:
        for _ in range(50):
            queue.enter_context(admission.work("somebody"))


def test_long_work_tells_nothing_of_how_long_others_take(clock: Clock) -> None:
    admission = Admission(100, 100, deadline_s=10)
    for _ in range(50):
        with admission.work("video", long=True):
            clock.now += 600
            answer(admission, clock, seconds=0.01, times=1)
            clock.now += 600
    with contextlib.ExitStack() as queue:
        for _ in range(50):
            queue.enter_context(admission.work("somebody"))


def test_an_answer_that_is_read_slowly_is_no_work(clock: Clock) -> None:
    admission = Admission(100, 100, deadline_s=10)
    with admission.work("slow"):  # its answer is on its way
        for _ in range(50):
            clock.now += 600
            answer(admission, clock, seconds=0.01, times=1)
        with contextlib.ExitStack() as queue:
            for _ in range(30):
                queue.enter_context(admission.work("somebody"))


def test_long_work_leaves_half_of_the_places(clock: Clock) -> None:
    admission = Admission(8, 8, 60)
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(admission.work("greedy", long=True))
        with pytest.raises(ApiError, match="2 videos of yours") as refusal:
            held.enter_context(admission.work("greedy", long=True))
        assert refusal.value.code == "queue_full"
        held.enter_context(admission.work("modest", long=True))
        held.enter_context(admission.work("third", long=True))
        with pytest.raises(ApiError, match="4 videos are waiting"):
            held.enter_context(admission.work("fourth", long=True))
        with admission.work("fourth"):
            clock.now += under_test.STUCK_AFTER_S + 1
            assert not admission.stuck
            assert admission.answering == 5
    with Admission(1, 1, 60).work("somebody", long=True):
        pass


def test_long_work_takes_none_of_the_seconds_of_the_client(clock: Clock) -> None:
    admission = Admission(100, 100, deadline_s=20)
    answer(admission, clock, seconds=2, times=200)
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(admission.work("somebody", long=True))
        for _ in range(5):  # of 2 s each: half of 20
            held.enter_context(admission.work("somebody"))
        with pytest.raises(ApiError, match="9 requests of yours are waiting"):
            held.enter_context(admission.work("somebody"))


def test_retry_after_is_bounded(clock: Clock) -> None:
    admission = Admission(1, 1, deadline_s=1e6)
    answer(admission, clock, seconds=5000, times=50)
    with admission.work("somebody"), pytest.raises(ApiError) as refusal, admission.work("somebody"):
        pass
    assert refusal.value.retry_after_s == LONGEST_RETRY_S


def test_a_draining_server_takes_nothing_new_and_finishes_what_it_has() -> None:
    admission = Admission(4, 4, 60)
    with admission.upload("somebody"):
        admission.draining = True
        with pytest.raises(ApiError) as refusal, admission.upload("somebody"):
            pass
    assert refusal.value.code == "draining"
    with admission.work("somebody"):  # its upload was accepted before
        pass


def sent_at(admission: Admission, client: str, sizes: Sequence[int]) -> Coroutine[Any, Any, int]:
    """One upload that sends pieces of these sizes at once and then stays open."""

    async def pieces() -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)
        await asyncio.Event().wait()

    async def upload() -> int:
        with admission.upload(client) as body:
            return await body.read(total(body.counted(pieces())))
        raise AssertionError

    return upload()


async def total(stream: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in stream])


async def gave_way(upload: asyncio.Task[int]) -> None:
    with pytest.raises(ApiError, match="given way; send it again") as refusal:
        await upload
    assert refusal.value.code == "queue_full"
    assert refusal.value.retry_after_s


async def begun(*uploads: Coroutine[Any, Any, int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(upload) for upload in uploads]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_the_slowest_upload_gives_way_to_who_has_none(clock: Clock) -> None:
    async def run() -> None:
        admission = Admission(9, 4, 60)
        tasks = await begun(
            *(sent_at(admission, "one", [size, size]) for size in (100, 200)),
            sent_at(admission, "other", [50]),
            sent_at(admission, "third", [300]),
        )
        assert admission.uploading == 4
        clock.now += under_test.GIVES_WAY_AFTER_S
        # Of who sends several the slower one, though another's alone is slower still.
        tasks += await begun(sent_at(admission, "stranger", [400]))
        await gave_way(tasks[0])
        assert admission.uploading == 4
        # Who has one already gets no further one so.
        with pytest.raises(ApiError, match="4 uploads are under way"), admission.upload("one"):
            pass
        # Among those who have one each, the slowest of all.
        clock.now += under_test.GIVES_WAY_AFTER_S
        tasks += await begun(sent_at(admission, "fifth", [500]))
        await gave_way(tasks[2])
        assert not any(tasks[index].done() for index in (1, 3, 4, 5))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert admission.in_flight == 0

    asyncio.run(run())


def test_an_upload_that_has_just_begun_does_not_give_way(clock: Clock) -> None:
    async def run() -> None:
        admission = Admission(9, 1, 60)
        tasks = await begun(sent_at(admission, "one", [1]))
        with pytest.raises(ApiError, match="1 uploads"), admission.upload("stranger"):
            pass
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_a_body_that_is_in_does_not_give_way(clock: Clock) -> None:
    async def run() -> None:
        admission = Admission(9, 1, 60)
        with admission.upload("one") as body:
            assert await body.read(asyncio.sleep(0, 7)) == 7
            clock.now += under_test.GIVES_WAY_AFTER_S
            with pytest.raises(ApiError, match="1 uploads"), admission.upload("stranger"):
                pass
            with pytest.raises(TimeoutError):  # its own time-outs are what they were
                await body.read(asyncio.wait_for(asyncio.Event().wait(), 0))
        assert admission.in_flight == 0

    asyncio.run(run())


def test_a_body_that_waits_to_be_parsed_does_not_give_way(clock: Clock) -> None:
    async def run() -> None:
        admission, turn = Admission(9, 2, 60), asyncio.Event()

        async def in_turn(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for chunk in stream:
                await turn.wait()
                yield chunk

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(200)
            await asyncio.Event().wait()

        async def upload() -> int:
            with admission.upload("waits") as body:
                return await body.read(total(in_turn(body.counted(pieces()))))
            raise AssertionError

        tasks = await begun(upload())
        clock.now += 1000
        with admission.upload("other"), pytest.raises(ApiError, match="2 uploads"):
            admission.upload("stranger").__enter__()
        # Nor is it slow afterwards.
        turn.set()
        tasks += await begun(sent_at(admission, "slow", [100]))
        clock.now += under_test.GIVES_WAY_AFTER_S
        tasks += await begun(sent_at(admission, "stranger", [400]))
        await gave_way(tasks[1])
        assert not tasks[0].done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_questions_share_memory() -> None:
    """A thousand bytes: half for small questions, some bytes for each place, half for others."""
    admission = Admission(5, 5, 60, max_question_bytes=1000)
    with contextlib.ExitStack() as held:
        held.enter_context(admission.question("greedy", 200))
        with pytest.raises(ApiError, match="questions of yours") as refusal:
            held.enter_context(admission.question("greedy", 51))
        assert refusal.value.code == "queue_full"
        held.enter_context(admission.question("greedy", 50))
        held.enter_context(admission.question("modest", 240))
        with pytest.raises(ApiError, match="questions with many labels"):
            held.enter_context(admission.question("third", 61))
        for _ in range(10):
            held.enter_context(admission.question("third", 50))
    with admission.question("greedy", 250), admission.question("modest", 250):
        pass


def test_a_question_that_needs_more_than_there_is_is_answered_alone() -> None:
    admission = Admission(5, 5, 60, max_question_bytes=1000)
    with admission.question("one", 5000):
        with pytest.raises(ApiError), admission.question("two", 60):
            pass
        with admission.question("two", 50):
            pass
    with admission.question("two", 60), pytest.raises(ApiError), admission.question("one", 5000):
        pass
