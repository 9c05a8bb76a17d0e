"""Label vectors: this process's memory in front, an optional shared store behind, then the network.

Vectors are those before the prompt head: they depend on the text alone, so any clip may use them.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.cache.single_flight import SingleFlight
from service.cache.spaces import ONE_SPACE, SHARED, Spaces
from service.sharing.owned_cache import OwnedCache

Vector = NDArray[np.float32]
PART = 512  # texts computed before they are shared and the store is asked again
STACKED_IN_THREAD_FROM = 1000  # prompts; about a millisecond
BYTES_BESIDE_VECTOR = 1200  # array header, key and bookkeeping of a kept label

# Texts, and the client who wants them.
EncodeTexts = Callable[[Sequence[str], str], Awaitable[NDArray[np.float32]]]
# For the length of their work; raises where a client has asked for too much.
TakeOn = Callable[[Sequence[str], str], AbstractContextManager[None]]
_Key = tuple[str, str]  # space and prompt


class LabelStore(Protocol):
    """Vectors that several servers share. It may forget; it never raises or blocks long."""

    async def get_many(
        self, prompts: Sequence[str], space: str, client: str
    ) -> list[Vector | None]:
        """Return the vectors stored in a space, None where there is none; clients in turn."""

    async def put_many(self, vectors: Mapping[str, Vector], space: str, client: str) -> None:
        """Store vectors in a space, by prompt, for a client."""


@dataclass(frozen=True)
class LabelVectors:
    """Vectors (K,D) of K labels, and how many of their prompts were known and unknown."""

    vectors: NDArray[np.float32]
    hits: int
    misses: int


class LabelCache:
    """Answers for prompts; what several requests miss at once is computed once.

    Half is for one client, and where it is full, who holds most gives way. Where `spaces` are
    private, nobody can tell by it what another has asked.
    """

    def __init__(
        self,
        encode: EncodeTexts,
        max_bytes: int,
        store: LabelStore | None = None,
        take_on: TakeOn = lambda texts, client: nullcontext(),
        spaces: Spaces = ONE_SPACE,
    ) -> None:
        self._encode, self._store, self._take_on = encode, store, take_on
        self._spaces = spaces
        self._known: OwnedCache[_Key, Vector] = OwnedCache(max_bytes, _bytes_of)
        self._flights: SingleFlight[_Key, Vector] = SingleFlight()
        self._order = random.Random()  # noqa: S311 (no secret; another order in each process)

    def __len__(self) -> int:
        return len(self._known)

    async def get(self, prompts: Sequence[str], each: int = 1, client: str = "") -> LabelVectors:
        """Return vectors of the prompts, in order; of every `each` prompts in a row, their mean.

        Raises whatever `take_on` raises for prompts that are not known, or encoding them.
        """
        unique = list(dict.fromkeys(prompts))
        vectors: dict[str, Vector] = {}
        for number, part in enumerate(_parts(unique)):
            if number:
                await asyncio.sleep(0)  # others go on: there may be ten thousand
            vectors |= await self._held(part, client)
        misses = [prompt for prompt in unique if prompt not in vectors]
        with self._take_on(misses, client):
            vectors |= await self._encoded(misses, client)
        if len(prompts) < STACKED_IN_THREAD_FROM:
            means = _means(prompts, vectors, each)
        else:
            means = await asyncio.to_thread(_means, prompts, vectors, each)
        return LabelVectors(means, len(unique) - len(misses), len(misses))

    async def _held(
        self, prompts: Sequence[str], client: str, *, ask_store: bool = True
    ) -> dict[str, Vector]:
        """Return the vectors that are known here, or that other servers have computed."""
        space = self._spaces.of(client)
        vectors: dict[str, Vector] = {}
        for prompt in prompts:
            for of_whom in dict.fromkeys((space, SHARED)):
                vector = self._known.get((of_whom, prompt))
                if vector is not None:
                    vectors[prompt] = vector
        missing = [p for p in prompts if p not in vectors]
        if self._store is None or not missing or not ask_store:
            return vectors
        stored = await self._store.get_many(missing, space, client)
        new = {p: v for p, v in zip(missing, stored, strict=True) if v is not None}
        self._keep(new, client)
        return vectors | new

    def _keep(self, vectors: Mapping[str, Vector], client: str) -> None:
        space = self._spaces.of(client)
        for prompt, vector in vectors.items():
            self._known.put(client, (space, prompt), vector)

    async def _encoded(self, prompts: Sequence[str], client: str) -> dict[str, Vector]:
        """Compute vectors a part at a time: what is done stays known if the rest is given up.

        The order of the parts is drawn, and before each further one it is asked again what is
        known, so that requests and servers which were given the same new list share the work.
        """

        def start(keys: list[_Key]) -> asyncio.Task[Mapping[_Key, Vector]]:
            return asyncio.create_task(self._encode_and_keep(keys, client))

        space = self._spaces.of(client)
        vectors: dict[str, Vector] = {}
        parts = _parts(prompts)
        self._order.shuffle(parts)
        for number, part in enumerate(parts):
            vectors |= await self._held(part, client, ask_store=number > 0)
            rest = [(space, prompt) for prompt in part if prompt not in vectors]
            computed = await self._flights.run(rest, start, client)
            vectors |= {prompt: vector for (_, prompt), vector in computed.items()}
        return vectors

    async def _encode_and_keep(self, keys: list[_Key], client: str) -> Mapping[_Key, Vector]:
        prompts = [prompt for _, prompt in keys]
        encoded = await self._encode(prompts, client)
        # copies: a kept row would keep the whole array that it was computed in
        vectors = {p: vector.copy() for p, vector in zip(prompts, encoded, strict=True)}
        self._keep(vectors, client)
        if self._store is not None:
            await self._store.put_many(vectors, self._spaces.of(client), client)
        return {key: vectors[key[1]] for key in keys}


def _bytes_of(key: _Key, vector: Vector) -> int:
    return BYTES_BESIDE_VECTOR + sys.getsizeof(key[1]) + vector.nbytes


def _parts(prompts: Sequence[str]) -> list[Sequence[str]]:
    return [prompts[first : first + PART] for first in range(0, len(prompts), PART)]


def _means(prompts: Sequence[str], known: Mapping[str, Vector], each: int) -> Vector:
    """Average every `each` vectors in a row: (K,D) of K × each prompts.

    Means of what the encoder gives, not of unit vectors: the prompt head reads their length.
    """
    dim = len(known[prompts[0]])
    if each == 1:
        return np.concatenate([known[prompt] for prompt in prompts]).reshape(-1, dim)
    means = np.empty((len(prompts) // each, dim), np.float32)
    for index in range(len(means)):
        label = [known[prompt] for prompt in prompts[index * each : (index + 1) * each]]
        means[index] = np.mean(label, axis=0)
    return means
