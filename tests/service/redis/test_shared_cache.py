"""The shared cache against a real Redis in every state that a Redis can be in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cache.redis import write_behind
from service.cache.redis.client import READS, SharedCache
from service.setting_types import check_redis_url
from tests.service.redis.conftest import (
    HASTY_S,
    PATIENT_S,
    RedisServer,
    hold_up_the_loop,
    run,
    shared_cache,
    until,
    wait_for,
)

ENTRIES = {f"key {i}".encode(): f"value {i}".encode() * 50 for i in range(300)}
KEYS = list(ENTRIES)


async def filled(cache: SharedCache) -> None:
    await until(lambda: cache.up)
    cache.put_many(ENTRIES)
    await until(lambda: cache.stats.writes["stored"] == len(ENTRIES))


def test_values_come_back_by_key_and_are_forgotten_in_time(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url, ttl_s=6000) as cache:
            await filled(cache)
            mixed = [KEYS[7], b"unknown", KEYS[2]]
            assert await cache.get_many(mixed) == [ENTRIES[KEYS[7]], None, ENTRIES[KEYS[2]]]
            assert cache.stats.reads == {"found": 2, "absent": 1, "skipped": 0, "failed": 0}
            assert cache.state == "up"

    run(scenario())
    with redis_server.client() as client:
        assert 3000 < client.ttl(KEYS[0]) <= 6000


def test_what_waits_is_written_before_the_end(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "STOP_TIMEOUT_S", PATIENT_S)

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            cache.put_many(ENTRIES)

    run(scenario())
    with redis_server.client() as client:
        assert client.dbsize() == len(ENTRIES)


def test_killed_then_restarted(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await filled(cache)
            redis_server.kill()
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            assert cache.state == "down: connection"
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            assert cache.stats.reads["skipped"] == len(KEYS)
            cache.put_many(ENTRIES)
            assert cache.stats.writes["dropped"] == len(ENTRIES)
            redis_server.start()
            await until(lambda: cache.up)
            assert await cache.get_many(KEYS) == [None] * len(KEYS)  # it came back empty
            assert cache.stats.reads["absent"] == len(KEYS)

    run(scenario())


def test_paused_costs_one_time_out_then_nothing(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await filled(cache)
            redis_server.pause()
            wait_for(cache, HASTY_S)
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            assert cache.state == "down: timeout"
            wait_for(cache, PATIENT_S)
            for _ in range(100):
                assert await cache.get_many(KEYS) == [None] * len(KEYS)
            assert cache.stats.errors["timeout"] == 1
            assert cache.stats.reads["skipped"] == 100 * len(KEYS)
            redis_server.resume()
            await until(lambda: cache.up)
            # Answers to the questions that were given up must not be taken for these.
            for keys in (KEYS, KEYS[::-1], KEYS[5:9]):
                assert await cache.get_many(keys) == [ENTRIES[key] for key in keys]

    run(scenario())


def test_away_at_the_start_and_there_later(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    server.kill()

    async def scenario() -> None:
        async with shared_cache(server.url) as cache:
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            await until(lambda: cache.state == "down: connection")
            server.start()
            await until(lambda: cache.up)

    run(scenario())


def test_flushed(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await filled(cache)
            with redis_server.client() as client:
                client.flushall()
            assert await cache.get_many(KEYS[:3]) == [None] * 3
            cache.put_many(ENTRIES)
            await until(lambda: cache.stats.writes["stored"] == 2 * len(ENTRIES))
            assert await cache.get_many(KEYS[:3]) == [ENTRIES[key] for key in KEYS[:3]]

    run(scenario())


def test_a_replica_is_read_and_not_written(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "PAUSE_S", 0.1)
    main = make_redis("--repl-diskless-sync-delay", "0")
    replica = make_redis("--replicaof", f"127.0.0.1 {main.port}")
    with main.client() as client:
        client.mset(ENTRIES)
        while client.wait(1, 100) != 1:
            pass

    async def scenario() -> None:
        async with shared_cache(replica.url) as cache:
            await until(lambda: cache.up)
            assert await cache.get_many(KEYS) == list(ENTRIES.values())
            cache.put_many({b"new": b"value"})
            await until(lambda: cache.stats.writes["refused"] == 1)
            assert cache.up
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            await until(lambda: cache.writable)
            cache.put_many({b"new": b"value"})
            await until(lambda: cache.stats.writes["stored"] == 1)
            assert await cache.get_many([b"new"]) == [b"value"]

    run(scenario())


def test_refused_writes_are_told(make_redis: Callable[..., RedisServer]) -> None:
    full = make_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        async with shared_cache(full.url) as cache:
            await until(lambda: cache.up)
            cache.put_many(ENTRIES)
            await until(lambda: not cache.writable)
            assert cache.state.startswith("up, writes refused: ")
            assert cache.stats.errors["refused"] == 1, "one refusal pauses all writing"
            assert await cache.get_many(KEYS) == [None] * len(KEYS)

    run(scenario())


def test_full_memory_under_an_eviction_policy_keeps_working(
    make_redis: Callable[..., RedisServer],
) -> None:
    small = make_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            many = {f"{i}".encode(): bytes(4000) for i in range(2000)}
            cache.put_many(many)
            await until(lambda: cache.stats.writes["stored"] == len(many))
            values = await cache.get_many(list(many)[-400:])
            assert 0 < len([v for v in values if v]) <= 400

    run(scenario())


def test_a_huge_value_costs_at_most_the_time_out(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.mset({b"huge": bytes(200 << 20), b"small": b"value"})

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            wait_for(cache, 0.02)
            assert await cache.get_many([b"huge"]) == [None]
            wait_for(cache, PATIENT_S)
            while await cache.get_many([b"small"]) != [b"value"]:
                await asyncio.sleep(0.005)

    run(scenario())


def test_keys_of_another_type_are_absent(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.rpush(KEYS[0], "a list")

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            assert await cache.get_many(KEYS[:1]) == [None]
            assert cache.up

    run(scenario())


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_named_and_never_shown(
    make_redis: Callable[..., RedisServer], password: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = make_redis(password="right-secret")
    server.password = password

    async def scenario() -> None:
        async with shared_cache(server.url) as cache:
            await until(lambda: cache.state == "down: authentication")
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            server.password = "right-secret"
            assert "wrong" not in repr(vars(cache)["stats"]) + cache.state

    run(scenario())
    shown = "".join(capfd.readouterr())
    assert "secret" not in shown
    assert "wrong@" not in shown


def test_tls_and_password(make_redis: Callable[..., RedisServer], certificates: Path) -> None:
    server = make_redis(password="secret", tls=certificates)

    async def scenario() -> None:
        async with shared_cache(server.url) as cache:
            await filled(cache)
            assert await cache.get_many(KEYS) == list(ENTRIES.values())
            server.pause()
            wait_for(cache, HASTY_S)
            assert await cache.get_many(KEYS) == [None] * len(KEYS)
            wait_for(cache, PATIENT_S)
            server.resume()
            await until(lambda: cache.up)
            assert await cache.get_many(KEYS[:2]) == [ENTRIES[key] for key in KEYS[:2]]

    run(scenario())


def test_tls_of_an_unknown_authority_is_refused(
    make_redis: Callable[..., RedisServer], certificates: Path
) -> None:
    server = make_redis(tls=certificates)

    async def scenario() -> None:
        async with shared_cache(server.url.partition("?")[0]) as cache:
            await until(lambda: cache.state == "down: connection")
            assert await cache.get_many(KEYS) == [None] * len(KEYS)

    run(scenario())


def test_no_room_for_waiting_writes_drops_them(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "MAX_WAITING_BYTES", 1800)

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            cache.put_many({b"a": bytes(600), b"b": bytes(300)}, client="alice")  # half is for one
            cache.put_many({b"c": bytes(300)}, client="bob")
            assert cache.stats.writes["dropped"] == 1
            await until(lambda: cache.stats.writes["stored"] == 2)
            assert await cache.get_many([b"a", b"b", b"c"]) == [bytes(600), None, bytes(300)]

    run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://h:port/0",
        "redis://h/0?socket_timeout=x",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is looked at below)
        check_redis_url(url.replace("//", "//user:secret@") if "//" in url else url)
    assert "secret" not in str(caught.value)


def test_a_quick_answer_takes_no_time_from_the_time_out(redis_server: RedisServer) -> None:
    """The event loop held up for longer than the time-out is not the Redis's fault."""

    async def scenario() -> None:
        async with shared_cache(redis_server.url, timeout_s=PATIENT_S / 60) as cache:
            await filled(cache)
            asking = asyncio.ensure_future(cache.get_many(KEYS))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            hold_up_the_loop(PATIENT_S / 30)
            assert await asking == list(ENTRIES.values())
            assert cache.up

    run(scenario())


def test_who_reads_much_takes_no_redis_from_others(redis_server: RedisServer) -> None:
    """A turn to read that comes too late is a miss: the Redis is well, and stays in use."""

    async def scenario() -> None:
        async with shared_cache(redis_server.url, timeout_s=HASTY_S) as cache:
            await filled(cache)
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(READS):
                    await stack.enter_async_context(cache._reading.place("who reads much"))
                assert await cache.get_many(KEYS[:3], "somebody else") == [None] * 3
            assert (cache.state, cache.stats.reads["skipped"]) == ("up", 3)
            assert not cache._reading.waiting

    run(scenario())
