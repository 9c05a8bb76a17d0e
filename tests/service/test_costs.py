"""What work costs, and who is charged: by each place where clients have turns, and over HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from typing import Any

import pytest

from service.access.rate_limits import RateLimiter, until_room_s
from service.contract.errors import ApiError
from service.contract.rate import parse_rate
from service.inference.batching import Batcher
from service.inference.inference_thread import InferenceThread
from service.settings import Settings
from service.sharing.costs import Costs
from service.sharing.fair_threads import FairThreads
from tests.service.conftest import clip_bytes, fake_runtime, running

LABELS = ["a cat", "a dog"]


def test_costs_add_up_until_they_are_taken() -> None:
    costs = Costs()
    for client, seconds in (("alice", 1.0), ("bob", 2.0), ("alice", 3.0), ("", 9.0)):
        costs.charge(client, seconds)
    assert costs.take("alice") == 4.0
    assert costs.take("alice") == 0.0
    assert costs.take_all() == {"bob": 2.0}
    assert costs.take_all() == {}


def test_a_call_is_charged_to_its_client_also_when_it_fails() -> None:
    costs, held = Costs(), threading.Event()

    def work() -> None:
        held.wait()
        raise ValueError("bad")

    async def scenario() -> float:
        began = time.perf_counter()
        call = asyncio.ensure_future(threads.run(work, "alice"))
        await asyncio.sleep(0.02)
        held.set()
        with pytest.raises(ValueError, match="bad"):
            await call
        return time.perf_counter() - began

    threads = FairThreads(1, "charged", costs.charge)
    lasted = asyncio.run(scenario())
    threads.close()
    assert 0 < costs.take("alice") <= lasted
    assert not costs.take_all()


def test_each_client_pays_for_its_part_of_a_batch() -> None:
    paid: dict[str, float] = defaultdict(float)
    began, go_on = threading.Event(), threading.Event()

    def charge(client: str, seconds: float) -> None:
        paid[client] += seconds

    def run(works: list[int]) -> list[int]:
        began.set()
        go_on.wait()
        time.sleep(0.01)
        return works

    async def scenario() -> None:
        thread = InferenceThread(charge)
        batcher: Batcher[int, int] = Batcher(thread, run, sum, 4)
        first = asyncio.ensure_future(batcher.submit(4, "first"))
        await asyncio.to_thread(began.wait)
        together = [
            asyncio.ensure_future(batcher.submit(n, c)) for n, c in ((1, "one"), (3, "three"))
        ]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *together)
        thread.close()

    asyncio.run(scenario())
    assert paid.keys() == {"first", "one", "three"}
    assert paid["three"] == pytest.approx(3 * paid["one"])


def test_what_is_used_up_counts_however_much_it_is() -> None:
    async def scenario() -> None:
        limiter, rate = RateLimiter(None, 1), parse_rate("10/hour;15/day")
        await limiter.charge(rate, "alice", 9)
        await limiter.check(rate, "alice", "all is used up")
        await limiter.charge(rate, "alice", 1000)
        with pytest.raises(ApiError, match="all is used up") as refused:
            await limiter.check(rate, "alice", "all is used up")
        assert refused.value.code == "rate_limited"
        # Far over: this hour's part of it is still too much through nearly all of the next.
        wait_s = refused.value.retry_after_s
        assert wait_s is not None
        assert 3500 < wait_s <= 7200
        await limiter.check(rate, "bob", "all is used up")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "before_s", "now", "now_s", "wait_s"),
    [
        (0, 0, 0, 0, 0),
        (0, 0, 1000, 40, 40),  # over by little: soon after the end of this window
        (0, 0, 9990, 40, 40 + 90),  # over by far: when most of it is forgotten
        (1000, 50, 500, 50, 0),
        (2000, 100, 0, 100, 50),
        (500, 50, 500, 50, 0),
    ],
)
def test_when_there_is_room_again(
    before: int, before_s: float, now: int, now_s: float, wait_s: float
) -> None:
    assert until_room_s(1000, 100, before, before_s, now, now_s) == pytest.approx(wait_s, abs=0.05)


def test_a_client_whose_work_has_cost_too_much_is_refused() -> None:
    runtime = fake_runtime()
    encode = runtime.encode_video

    def slow(frames: Any) -> Any:
        time.sleep(1.05)
        return encode(frames)

    with running(runtime, cost_limit="1/hour", max_in_flight=8) as server:
        server.server.engine._clips._batcher._encode = slow
        first = server.classify(clip_bytes(), labels=LABELS)
        assert first.status_code == 200
        refused = server.classify(None, video_id=first.json()["video_id"], labels=LABELS)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert "1 per 1 hour, in seconds of work" in refused.json()["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 7200
        other = server.client.post(
            "/classify",
            files={"video": clip_bytes()},
            data={"labels": LABELS},
            headers={"X-Forwarded-For": "203.0.113.7"},
        )
        assert other.status_code == 200


def test_every_stage_of_a_request_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding by its worker, forms and long lists by their threads, the network by its own."""
    with running(fake_runtime(), cost_limit="9999/hour") as server:
        access, engine = server.server.access, server.server.engine
        assert access._budget is not None
        charged: list[str] = []
        charge = access.charge
        assert engine.thread.charge == engine._beside._charge == charge
        assert engine.pool._queue._charge == server.server.parsing._charge == charge

        def seen(client: str, seconds: float) -> None:
            assert seconds > 0
            charged.append(client)

        monkeypatch.setattr(engine.thread, "charge", seen)
        for part in (engine._beside, engine.pool._queue, server.server.parsing):
            monkeypatch.setattr(part, "_charge", seen)
        labels = [f"a cat of the number {n}" for n in range(100)]
        assert server.classify(clip_bytes(3), labels=labels).status_code == 200
    # The form, the worker, tokens beside, and of the network clip, texts and scores.
    assert len(charged) >= 6
    assert set(charged) == {"127.0.0.1"}


@pytest.mark.parametrize("text", ["often", "60", "0.5/minute"])
def test_what_is_no_cost(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 60/minute"):
        Settings(cost_limit=text)
