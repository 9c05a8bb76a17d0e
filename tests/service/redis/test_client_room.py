"""Clients who share a Redis: none can push out what is there of the others beyond his part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import pytest

from export.bundle import open_bundle
from service.cache.redis.client import SharedCache
from service.cache.redis.client_room import CLIENTS, FOR_CLIENTS
from service.cache.redis.label_store import SharedLabels
from service.cache.spaces import SHARED
from service.settings import DEMO_BUNDLE
from tests.service.conftest import fake_runtime
from tests.service.redis.conftest import RedisServer, run, shared_cache, until

MIB = 1 << 20
MEMORY = 12 * MIB
SMALL = ("--maxmemory", f"{MEMORY}")
VALUE = bytes(2000)

Item = TypeVar("Item")


def entries(name: str, count: int) -> dict[bytes, bytes]:
    return {f"{name} {n:05}".encode(): VALUE for n in range(count)}


async def written(cache: SharedCache, what: dict[bytes, bytes], client: str = "") -> None:
    """Write, no more at a time than one may have waiting; all of it is taken."""
    for part in batched(what.items(), 4000):
        after = cache.stats.writes["stored"] + len(part)
        cache.put_many(dict(part), client=client)
        await until(lambda after=after: cache.stats.writes["stored"] == after)  # type: ignore[misc]


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


async def found(cache: SharedCache, keys: list[bytes]) -> int:
    return sum(value is not None for value in await cache.get_many(keys))


def held(redis_server: RedisServer) -> list[float]:
    """Bytes that each client is told to hold; of all, they are told."""
    with redis_server.client() as client:
        (total, *each) = [score for _, score in client.zrange(CLIENTS, 0, -1, withscores=True)]
    assert sum(each) == -total
    return each


def expire_all(redis_server: RedisServer) -> None:
    """Have the entries of the only client expire, as far as it is noted."""
    with redis_server.client() as client:
        (_, name) = client.zrange(CLIENTS, 0, -1)
        ends = CLIENTS + b":" + name + b":ends"
        client.zadd(ends, dict.fromkeys(client.zrange(ends, 0, -1), time.time() - 1))


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
            # One has half of it, so there is room for another who comes.
            assert 0.45 < max(held(small)) / (FOR_CLIENTS * MEMORY) <= 0.5
            assert sum(held(small)) < 0.6 * FOR_CLIENTS * MEMORY
            carol = entries("carol", 500)
            await written(cache, carol, "carol")
            dave = entries("dave", 12_000)
            await written(cache, dave, "dave")
            assert 0.95 < sum(held(small)) / (FOR_CLIENTS * MEMORY) <= 1
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
            expire_all(small)
            await written(cache, since, "bob")
            twice = max(held(small))
            for name in ("alice", "carol"):
                await written(cache, entries(name, 5000), name)
            assert min(held(small)) == twice / 2
            assert await found(cache, list(since)) == len(since)

    run(scenario())


def test_what_another_has_written_since_is_not_dropped_with_what_has_expired(
    make_redis: Callable[..., RedisServer],
) -> None:
    small = make_redis(*SMALL)
    same = entries("same", 200)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            await written(cache, same, "bob")
            expire_all(small)
            await written(cache, same, "carol")
            for name in ("alice", "dave"):
                await written(cache, entries(name, 5000), name)
            assert len(held(small)) == 3  # of bob's nothing is counted any more
            assert await found(cache, list(same)) == len(same)

    run(scenario())


def test_what_was_written_longest_ago_goes_first_whenever_it_expires(
    make_redis: Callable[..., RedisServer],
) -> None:
    """A client whose labels fill his half may still keep clips, which expire earlier."""
    small = make_redis(*SMALL)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            labels = entries("labels", 4000)
            await written(cache, labels, "alice")
            cache.put_many({b"clip": VALUE}, ttl_s=60, client="alice")
            await until(lambda: cache.stats.writes["stored"] == 4001)
            assert await found(cache, [b"clip"]) == 1
            assert await found(cache, list(labels)[-500:]) > 0

    run(scenario())


@pytest.mark.parametrize("lost", ["counts", "entries"])
def test_a_count_that_was_lost_begins_anew(
    make_redis: Callable[..., RedisServer], lost: str
) -> None:
    small = make_redis(*SMALL, "--maxmemory-policy", "allkeys-lru")

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            await written(cache, entries("alice", 500), "alice")
            with small.client() as client:
                client.delete(*client.keys(CLIENTS if lost == "counts" else CLIENTS + b":*"))
            await written(cache, entries("bob", 5000), "bob")
            await written(cache, entries("carol", 5000), "carol")
            bobs, carols = held(small)  # nothing stays counted for whom nothing is there
            assert bobs == pytest.approx(carols, rel=0.01)
            assert 0.9 < (bobs + carols) / (FOR_CLIENTS * MEMORY) <= 1
            assert await found(cache, list(entries("bob", 5000))[-500:]) > 0
            # What is there and counted no more is not subtracted, either.
            await written(cache, entries("alice", 100), "alice")
            assert min(held(small)) > 0

    run(scenario())


def test_clients_without_number_are_looked_through_in_parts(
    make_redis: Callable[..., RedisServer],
) -> None:
    small = make_redis(*SMALL)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            for part in range(10):
                many = {f"{n}": entries(f"{part} {n}", 20) for n in range(50)}
                for client, what in many.items():
                    cache.put_many(what, client=f"{part} {client}")
                await until(lambda part=part: cache.stats.writes["stored"] == 1000 * (part + 1))  # type: ignore[misc]
            assert 0.95 < sum(held(small)) / (FOR_CLIENTS * MEMORY) <= 1
            assert len(held(small)) > 100

    run(scenario())


def test_nobody_is_counted_where_the_server_writes_or_memory_has_no_bound(
    make_redis: Callable[..., RedisServer],
) -> None:
    small, boundless = make_redis(*SMALL), make_redis()

    async def scenario() -> None:
        for server, name in ((small, ""), (boundless, "alice")):
            async with shared_cache(server.url) as cache:
                await until(lambda cache=cache: cache.up)  # type: ignore[misc]
                await written(cache, entries("x", 10), name)
            with server.client() as client:
                assert client.dbsize() == 10

    run(scenario())


def test_clients_are_counted_in_any_space_and_not_named(
    make_redis: Callable[..., RedisServer],
) -> None:
    small = make_redis(*SMALL)
    bundle = open_bundle(DEMO_BUNDLE)
    vector = np.zeros(bundle.manifest.text_dim, np.float32)

    async def scenario() -> None:
        async with shared_cache(small.url) as cache:
            await until(lambda: cache.up)
            labels = SharedLabels(cache, bundle, fake_runtime())
            await labels.put_many({"a cat": vector}, "alice", "alice")  # a key, its space its own
            await labels.put_many({"a dog": vector}, SHARED, "bob")
            await until(lambda: cache.stats.writes["stored"] == 2)

    run(scenario())
    assert len(held(small)) == 2
    with small.client() as client:
        names = [*client.keys(), *client.zrange(CLIENTS, 0, -1)]
    assert not any(b"alice" in name or b"bob" in name for name in names)
