"""Two keys that share a Redis: neither can push out what is there of the other beyond its part."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from export.bundle import open_bundle
from service.cache.redis.client import SharedCache
from service.cache.redis.label_store import SharedLabels
from service.cache.redis.writers import FOR_WRITERS, WRITERS
from service.settings import DEMO_BUNDLE
from tests.service.conftest import fake_runtime
from tests.service.redis.conftest import RedisServer, run, shared_cache, until

MIB = 1 << 20
MEMORY = 12 * MIB
SMALL = ("--maxmemory", f"{MEMORY}")
VALUE = bytes(2000)


def entries(name: str, count: int) -> dict[bytes, bytes]:
    return {f"{name} {n:05}".encode(): VALUE for n in range(count)}


async def written(cache: SharedCache, what: dict[bytes, bytes], writer: str = "") -> None:
    """Write; all of it is taken."""
    before = cache.stats.writes["stored"]
    cache.put_many(what, writer=writer)
    await until(lambda: cache.stats.writes["stored"] == before + len(what))


async def found(cache: SharedCache, keys: list[bytes]) -> int:
    return sum(value is not None for value in await cache.get_many(keys))


def held(redis_server: RedisServer) -> list[float]:
    """Bytes that each writer is told to hold."""
    with redis_server.client() as client:
        return [score for _, score in client.zrange(WRITERS, 0, -1, withscores=True)]


@pytest.mark.parametrize("policy", ["allkeys-lru", "noeviction"])
def test_who_writes_without_end_keeps_what_others_have(
    make_redis: Callable[..., RedisServer], policy: str
) -> None:
    small = make_redis(*SMALL, "--maxmemory-policy", policy)
    bob, alice = entries("bob", 200), entries("alice", 12_000)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            await written(cache, bob, "bob")
            await written(cache, alice, "alice")
            assert await found(cache, list(bob)) == len(bob)
            assert await found(cache, list(alice)[-500:]) == 500
            assert await found(cache, list(alice)[:500]) == 0
            # One alone may have it all, until another comes.
            assert 0.9 < sum(held(small)) / (FOR_WRITERS * MEMORY) <= 1
            carol = entries("carol", 500)
            await written(cache, carol, "carol")
            for others in (bob, carol):
                assert await found(cache, list(others)) == len(others)
            # Who writes the same once more holds no more of it.
            before = sorted(held(small))
            await written(cache, carol, "carol")
            assert sorted(held(small)) == before

    run(scenario())
    with small.client() as client:
        assert client.info("stats")["evicted_keys"] == 0


def test_what_has_expired_makes_room_first(make_redis: Callable[..., RedisServer]) -> None:
    small = make_redis(*SMALL)
    early, since = entries("early", 200), entries("since", 200)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            await written(cache, early, "bob")
            with small.client() as client:
                (name,) = client.zrange(WRITERS, 0, -1)
                entries_of_bob = client.zrange(WRITERS + b":" + name, 0, -1)
                client.zadd(WRITERS + b":" + name, dict.fromkeys(entries_of_bob, time.time() - 1))
            await written(cache, since, "bob")
            twice = max(held(small))
            await written(cache, entries("alice", 5000), "alice")
            assert min(held(small)) == twice / 2
            assert await found(cache, list(since)) == len(since)

    run(scenario())


@pytest.mark.parametrize("lost", ["writers", "entries"])
def test_a_count_that_was_lost_begins_anew(
    make_redis: Callable[..., RedisServer], lost: str
) -> None:
    small = make_redis(*SMALL, "--maxmemory-policy", "allkeys-lru")

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            await written(cache, entries("alice", 500), "alice")
            with small.client() as client:
                client.delete(*client.keys(WRITERS if lost == "writers" else WRITERS + b":*"))
            await written(cache, entries("bob", 5000), "bob")
            (bobs,) = held(small)  # nothing stays counted for whom nothing is there
            assert 0.9 < bobs / (FOR_WRITERS * MEMORY) <= 1
            assert await found(cache, list(entries("bob", 5000))[-500:]) > 0

    run(scenario())


def test_nobody_is_counted_where_all_share_or_memory_has_no_bound(
    make_redis: Callable[..., RedisServer],
) -> None:
    small, boundless = make_redis(*SMALL), make_redis()

    async def scenario() -> None:
        for server, writer in ((small, ""), (boundless, "alice")):
            async with shared_cache(server.url) as cache:
                await until(lambda cache=cache: cache.up)  # type: ignore[misc]
                await written(cache, entries("x", 10), writer)
            with server.client() as client:
                assert client.dbsize() == 10

    run(scenario())


def test_writers_are_counted_by_their_space_and_not_named(
    make_redis: Callable[..., RedisServer],
) -> None:
    small = make_redis(*SMALL)
    bundle = open_bundle(DEMO_BUNDLE)
    vector = np.zeros(bundle.manifest.text_dim, np.float32)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            labels = SharedLabels(cache, bundle, fake_runtime())
            for space in ("alice", "bob"):
                await labels.put_many({"a cat": vector}, space)
            await until(lambda: cache.stats.writes["stored"] == 2)

    run(scenario())
    assert len(set(held(small))) == 1
    with small.client() as client:
        assert client.zcard(WRITERS) == 2
        names = [*client.keys(), *client.zrange(WRITERS, 0, -1)]
    assert not any(b"alice" in name or b"bob" in name for name in names)
