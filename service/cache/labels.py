"""Label vectors: this process's memory in front, an optional shared store behind, then the network.

Vectors are those before the prompt head: they depend on the text alone, so any clip may use them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

Vector = NDArray[np.float32]
PART = 512  # texts computed before they are shared and the store is asked again
STACKED_IN_THREAD_FROM = 1000  # prompts; about a millisecond

EncodeTexts = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]


class LabelStore(Protocol):
    """Vectors that several servers share. It may forget; it never raises or blocks long."""

    async def get_many(self, prompts: Sequence[str]) -> list[Vector | None]:
        """The stored vectors, None where there is none."""

    async def put_many(self, vectors: dict[str, Vector]) -> None:
        """Store vectors by prompt."""


@dataclass(frozen=True)
class LabelVectors:
    """Vectors (K,D) of K labels, and how many of their prompts were known and unknown."""

    vectors: NDArray[np.float32]
    hits: int
    misses: int


class LabelCache:
    """Answers for prompts; what several requests miss at once is computed once."""

    def __init__(
        self,
        encode: EncodeTexts,
        entries: int,
        store: LabelStore | None = None,
        check: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self._encode, self._store, self._check = encode, store, check
        self._known: LRUCache[str, Vector] = LRUCache(entries)
        self._coming: dict[str, asyncio.Future[Vector]] = {}
        self._order = random.Random()  # noqa: S311 (no secret; another order in each process)

    def __len__(self) -> int:
        return len(self._known)

    async def get(self, prompts: Sequence[str], each: int = 1) -> LabelVectors:
        """Vectors of the prompts, in order; of every `each` prompts in a row, their mean."""
        unique = list(dict.fromkeys(prompts))
        found: dict[str, Vector] = {}
        for first in range(0, len(unique), PART):
            if first:
                await asyncio.sleep(0)  # others go on: there may be ten thousand
            part = unique[first : first + PART]
            known = {p: self._known[p] for p in part if p in self._known}
            found |= known | await self._stored([p for p in part if p not in known])
        misses = [p for p in unique if p not in found]
        self._check(misses)
        found |= await self._compute(misses)
        if len(prompts) < STACKED_IN_THREAD_FROM:
            vectors = _means(prompts, found, each)
        else:
            vectors = await asyncio.to_thread(_means, prompts, found, each)
        return LabelVectors(vectors, len(unique) - len(misses), len(misses))

    async def _compute(self, prompts: list[str]) -> dict[str, Vector]:
        """Compute what nobody is computing yet, wait for the rest; a waiter never depends on
        whether the one who computes stays.
        """
        others = {p: self._coming[p] for p in prompts if p in self._coming}
        own = [p for p in prompts if p not in others]
        vectors: dict[str, Vector] = {}
        if own:
            vectors = await self._compute_own(own)
        for prompt, future in others.items():
            try:
                vectors[prompt] = await asyncio.shield(future)
            except asyncio.CancelledError:
                if not future.cancelled():
                    raise
        abandoned = [p for p in others if p not in vectors]
        if abandoned:
            vectors |= await self._compute(abandoned)
        return vectors

    async def _compute_own(self, prompts: list[str]) -> dict[str, Vector]:
        """Compute a long list a part at a time: what is done stays known if the rest is given up.

        The order of the parts is drawn, and the store is asked again before each further one, so
        that servers which were given the same new list at once share the work.
        """
        loop = asyncio.get_running_loop()
        futures = {p: loop.create_future() for p in prompts}
        self._coming |= futures
        vectors: dict[str, Vector] = {}
        parts = [prompts[first : first + PART] for first in range(0, len(prompts), PART)]
        self._order.shuffle(parts)
        try:
            for number, part in enumerate(parts):
                found = await self._stored(part) if number else {}
                computed = await self._compute_part([p for p in part if p not in found])
                for prompt, vector in (found | computed).items():
                    vectors[prompt] = vector
                    futures[prompt].set_result(vector)
        finally:
            for prompt, future in futures.items():
                self._coming.pop(prompt, None)
                future.cancel()
        return vectors

    async def _compute_part(self, prompts: list[str]) -> dict[str, Vector]:
        if not prompts:
            return {}
        encoded = await self._encode(prompts)
        # copies: a kept row would keep the whole array that it was computed in
        vectors = {p: vector.copy() for p, vector in zip(prompts, encoded, strict=True)}
        self._known.update(vectors)
        if self._store is not None:
            await self._store.put_many(vectors)
        return vectors

    async def _stored(self, prompts: list[str]) -> dict[str, Vector]:
        """Those that other servers have computed."""
        if self._store is None or not prompts:
            return {}
        stored = await self._store.get_many(prompts)
        found = {p: v for p, v in zip(prompts, stored, strict=True) if v is not None}
        self._known.update(found)
        return found


def _means(prompts: Sequence[str], found: Mapping[str, Vector], each: int) -> Vector:
    """Vectors (K,D) of the prompts, of every `each` in a row the mean.

    Means of what the encoder gives, not of unit vectors: the prompt head reads their length.
    """
    dim = len(found[prompts[0]])
    if each == 1:
        return np.concatenate([found[prompt] for prompt in prompts]).reshape(-1, dim)
    means = np.empty((len(prompts) // each, dim), np.float32)
    for place in range(len(means)):
        label = [found[prompt] for prompt in prompts[place * each : (place + 1) * each]]
        means[place] = np.mean(label, axis=0)
    return means
