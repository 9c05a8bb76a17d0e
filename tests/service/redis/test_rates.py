"""Rates that several servers count together, in a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.access import rate_limits
from service.access.rate_limits import RateLimiter
from service.cache.redis.client import CONNECTIONS
from service.contract.errors import ApiError
from service.contract.rate import parse_rate
from tests.service.redis.conftest import HASTY_S, PATIENT_S, RedisServer, run

RATE = parse_rate("3/hour")


async def counted(limiter: RateLimiter, client: str, times: int) -> int:
    """How many of so many requests are let in."""
    let_in, refusals = 0, []
    for _ in range(times):
        try:
            await limiter.count(RATE, client)
        except ApiError as error:
            refusals.append(error)
        else:
            let_in += 1
    assert {refusal.code for refusal in refusals} <= {"rate_limited"}
    assert all(1 <= (refusal.retry_after_s or 0) <= 3600 for refusal in refusals)
    return let_in


async def with_limiters(url: str | None, number: int, work: Callable[..., Awaitable[None]]) -> None:
    limiters = [RateLimiter(url, PATIENT_S) for _ in range(number)]
    for limiter in limiters:
        limiter.start()
    try:
        if url is not None:
            for limiter in limiters:
                await until_shared(limiter, True)
        await work(*limiters)
    finally:
        for limiter in limiters:
            await limiter.stop()


async def until_shared(limiter: RateLimiter, shared: bool) -> None:
    while limiter.shared is not shared:
        await asyncio.sleep(0.01)


def test_two_servers_count_together(redis_server: RedisServer) -> None:
    async def work(one: RateLimiter, other: RateLimiter) -> None:
        assert await counted(one, "alice", 2) == 2
        assert await counted(other, "alice", 5) == 1
        assert await counted(one, "alice", 1) == 0
        assert await counted(one, "bob", 4) == 3

    run(with_limiters(redis_server.url, 2, work))


def test_two_servers_add_up_costs(redis_server: RedisServer) -> None:
    async def work(one: RateLimiter, other: RateLimiter) -> None:
        await one.charge(RATE, "alice", 2)
        await other.check(RATE, "alice", "used up")
        await one.charge(RATE, "alice", 50)
        with pytest.raises(ApiError, match="used up") as refused:
            await other.check(RATE, "alice", "used up")
        # 52 of 3 in an hour: forgotten but for 2 when the next hour, or this one where it has begun
        # meanwhile, is nearly over.
        assert 3300 < (refused.value.retry_after_s or 0) <= 7200
        await other.check(RATE, "bob", "used up")
        redis_server.stop()
        await one.check(RATE, "alice", "used up")  # by what it counts itself
        await one.charge(RATE, "alice", 3)
        with pytest.raises(ApiError, match="used up"):
            await one.check(RATE, "alice", "used up")

    run(with_limiters(redis_server.url, 2, work))


def test_a_server_alone_counts_too() -> None:
    async def work(one: RateLimiter) -> None:
        assert await counted(one, "alice", 5) == 3

    run(with_limiters(None, 1, work))


def test_without_redis_each_counts_for_itself_and_comes_back(redis_server: RedisServer) -> None:
    async def work(one: RateLimiter) -> None:
        assert await counted(one, "alice", 3) == 3
        redis_server.stop()
        # Nobody is refused because of the loss, and nobody gets more than a rate again.
        assert await counted(one, "alice", 8) == 3
        assert not one.shared
        redis_server.start()
        await until_shared(one, True)

    run(with_limiters(redis_server.url, 1, work))


def test_a_redis_that_hangs_holds_up_one_request(redis_server: RedisServer) -> None:
    async def work(one: RateLimiter) -> None:
        redis_server.pause()
        one._timeout_s = HASTY_S
        assert await counted(one, "alice", 1) == 1
        assert not one.shared
        one._timeout_s = PATIENT_S  # who asked Redis now would wait for ever
        assert await counted(one, "alice", 49) == 2
        redis_server.resume()
        await until_shared(one, True)

    run(with_limiters(redis_server.url, 1, work))


def test_hundreds_at_once_ask_redis_in_turn(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for a connection beyond the time-out, and end the counting for everybody."""

    async def work(one: RateLimiter) -> None:
        go, at_once, most = asyncio.Event(), 0, 0

        async def held_up(seconds: float, asked: Coroutine[Any, Any, Any]) -> Any:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await go.wait()
            try:
                return await asked
            finally:
                at_once -= 1

        monkeypatch.setattr(rate_limits, "within", held_up)
        many = [asyncio.create_task(counted(one, "alice", 1)) for _ in range(200)]
        await asyncio.sleep(0)
        other = asyncio.create_task(counted(one, "bob", 1))
        await asyncio.sleep(0)
        go.set()
        assert await other == 1
        assert not all(task.done() for task in many), "who asks for little waits for one turn"
        assert sum(await asyncio.gather(*many)) == 3
        assert most < CONNECTIONS
        assert one.shared
        monkeypatch.undo()

    run(with_limiters(redis_server.url, 1, work))


@pytest.mark.parametrize(
    "text",
    [
        "often",
        "",
        "5",
        "-1/minute",
        "5/fortnight",
        "5/minute;",
        "5/minute;often",
        "5/minute nonsense",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_rate(text)


def test_tls_and_password(make_redis: Callable[..., RedisServer], certificates: Path) -> None:
    server = make_redis(password="secret", tls=certificates)

    async def work(one: RateLimiter) -> None:
        assert await counted(one, "alice", 4) == 3

    run(with_limiters(server.url, 1, work))


def test_a_cluster_that_cannot_count_is_given_up_once(
    make_redis: Callable[..., RedisServer],
) -> None:
    redis = make_redis("--cluster-enabled", "yes")  # without slots: it answers PING alone

    async def scenario() -> None:
        limiter = RateLimiter(redis.url, PATIENT_S)
        limiter.start()
        await until_shared(limiter, True)
        for _ in range(3):
            await limiter.count(RATE, "carol")
            assert not limiter.shared
        with pytest.raises(ApiError, match="the limit of"):
            await limiter.count(RATE, "carol")
        await limiter.stop()

    with capture_logs() as logs:
        run(scenario())
    assert [entry["event"] for entry in logs] == [
        "rates are counted in Redis",
        "rates are counted by this server alone",
    ]
