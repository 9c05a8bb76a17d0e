"""Label vectors: computed once, kept, shared; whatever becomes of those who asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.cache.labels import PART, LabelCache, Vector

LONG = [f"label {i}" for i in range(8 * PART + 5)]
ENOUGH = 64 << 20  # bytes


class Encoder:
    """Stands for the text graph: slow in the event loop's sense, counts what it is given."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.fail_after: int | None = None

    async def encode(self, prompts: Sequence[str], client: str) -> NDArray[np.float32]:
        for _ in range(20):
            await asyncio.sleep(0)
        self.encoded += prompts
        if self.fail_after is not None and len(self.encoded) > self.fail_after:
            raise ValueError("the network has failed")
        return np.array([[len(p), hash(p) % 997] for p in prompts], np.float32)


class Store:
    """A shared store that never forgets."""

    def __init__(self) -> None:
        self.held: dict[str, Vector] = {}

    async def get_many(
        self, prompts: Sequence[str], space: str, client: str
    ) -> list[Vector | None]:
        await asyncio.sleep(0)
        return [self.held.get(p) for p in prompts]

    async def put_many(self, vectors: Mapping[str, Vector], space: str, client: str) -> None:
        self.held |= vectors


def expected(prompts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[len(p), hash(p) % 997] for p in prompts], np.float32)


def test_vectors_come_in_the_order_asked_and_are_computed_once() -> None:
    encoder = Encoder()
    cache = LabelCache(encoder.encode, ENOUGH)

    async def scenario() -> None:
        prompts = ["b", "a", "b", "c"]
        first = await cache.get(prompts)
        np.testing.assert_array_equal(first.vectors, expected(prompts))
        assert (first.hits, first.misses) == (0, 3)
        again = await cache.get(["c", "d"])
        assert (again.hits, again.misses) == (1, 1)
        assert sorted(encoder.encoded) == ["a", "b", "c", "d"]

    asyncio.run(scenario())


def test_many_waiters_share_one_computation() -> None:
    encoder = Encoder()
    cache = LabelCache(encoder.encode, ENOUGH)

    async def scenario() -> None:
        wanted = [["a", "b"], ["b", "c"], ["c", "a"]]
        found = await asyncio.gather(*(cache.get(prompts) for prompts in wanted))
        for prompts, vectors in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(vectors.vectors, expected(prompts))
        assert sorted(encoder.encoded) == ["a", "b", "c"]

    asyncio.run(scenario())


def test_labels_are_taken_on_for_as_long_as_they_are_computed() -> None:
    encoder = Encoder()
    taken: list[tuple[str, list[str]]] = []

    @contextlib.contextmanager
    def take_on(prompts: Sequence[str], client: str) -> Iterator[None]:
        mine = (client, list(prompts))
        taken.append(mine)
        try:
            yield
        finally:
            taken.remove(mine)

    cache = LabelCache(encoder.encode, ENOUGH, None, take_on)

    async def scenario() -> None:
        first = asyncio.ensure_future(cache.get(["a", "b"], client="one"))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(cache.get(["b", "c"], client="one"))
        await asyncio.sleep(0)
        assert taken == [("one", ["a", "b"]), ("one", ["b", "c"])]
        await asyncio.gather(first, second)
        assert not taken
        leaving = asyncio.ensure_future(cache.get(["a", "d"], client="other"))
        await asyncio.sleep(0)
        assert taken == [("other", ["d"])]
        leaving.cancel()
        await asyncio.wait({leaving})
        assert not taken

    asyncio.run(scenario())


def test_who_waits_gets_an_answer_when_who_computes_leaves() -> None:
    encoder = Encoder()
    cache = LabelCache(encoder.encode, ENOUGH)

    async def scenario() -> None:
        leaving = asyncio.ensure_future(cache.get(["a", "b"]))
        await asyncio.sleep(0)
        staying = asyncio.ensure_future(cache.get(["b", "c"]))
        await asyncio.sleep(0)
        leaving.cancel()
        np.testing.assert_array_equal((await staying).vectors, expected(["b", "c"]))

    asyncio.run(scenario())


def test_what_is_done_of_a_long_list_stays_when_the_rest_fails() -> None:
    encoder = Encoder()
    cache = LabelCache(encoder.encode, ENOUGH)
    encoder.fail_after = 3 * PART

    async def scenario() -> None:
        with pytest.raises(ValueError, match="has failed"):
            await cache.get(LONG)
        kept = len(cache)
        assert 2 * PART <= kept <= 3 * PART
        encoder.fail_after = None
        again = await cache.get(LONG)
        assert again.hits == kept
        np.testing.assert_array_equal(again.vectors, expected(LONG))

    asyncio.run(scenario())


def test_servers_with_the_same_new_list_share_the_work() -> None:
    encoders, store = [Encoder(), Encoder()], Store()
    caches = [LabelCache(encoder.encode, ENOUGH, store) for encoder in encoders]
    for seed, cache in enumerate(caches):
        cache._order.seed(seed)

    async def scenario() -> None:
        found = await asyncio.gather(*(cache.get(LONG) for cache in caches))
        for vectors in found:
            np.testing.assert_array_equal(vectors.vectors, expected(LONG))

    asyncio.run(scenario())
    assert sum(len(encoder.encoded) for encoder in encoders) <= 1.5 * len(LONG)
    assert set(store.held) == set(LONG)


def test_a_list_longer_than_the_memory_is_answered_whole() -> None:
    cache = LabelCache(Encoder().encode, 10_000)

    async def scenario() -> None:
        np.testing.assert_array_equal((await cache.get(LONG)).vectors, expected(LONG))
        assert 0 < len(cache) < 12

    asyncio.run(scenario())
