"""Label vectors that several servers share, in a Redis: the store behind each server's own memory.

A key tells everything that a vector depends on: text encoder, tokenizer, what runs it and in which
precision, and the prompt. Servers with different bundles or runtimes use one Redis side by side.
Neither keys nor values hold a prompt in the clear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from export.bundle import Bundle
from export.runtime import Runtime
from service.cache.redis.client import KEYS_PER_READ, SharedCache
from service.cache.redis.records import UNSIGNED, VERSION, BadRecord, Records, Vector, Verdict
from service.cache.redis.spaces import in_space
from service.cache.spaces import SHARED

MAX_VECTOR_BYTES = 64 << 10  # no known network comes near; a wrong one shall not fill the Redis


class SharedLabels:
    """The LabelStore of one bundle and runtime in a shared cache."""

    def __init__(
        self, cache: SharedCache, bundle: Bundle, runtime: Runtime, records: Records = UNSIGNED
    ) -> None:
        self._cache, self._records = cache, records
        self._dim = bundle.manifest.text_dim
        self._prefix = f"xclip:label:{VERSION}:{_namespace(bundle, runtime)}:".encode()

    async def get_many(
        self, prompts: Sequence[str], space: str = SHARED, client: str = ""
    ) -> list[Vector | None]:
        """Return the vectors stored in a space, None where there is none that can be trusted."""
        vectors: list[Vector | None] = []
        for first in range(0, len(prompts), KEYS_PER_READ):
            keys = [self._key(prompt, space) for prompt in prompts[first : first + KEYS_PER_READ]]
            records = await self._cache.get_many(keys, client)
            vectors += [self._read(key, record) for key, record in zip(keys, records, strict=True)]
        return vectors

    async def put_many(
        self, vectors: Mapping[str, Vector], space: str = SHARED, client: str = ""
    ) -> None:
        """Have the vectors stored soon, for those who ask in this space."""
        if 4 * self._dim > MAX_VECTOR_BYTES or not self._cache.writable:
            return
        keyed = {self._key(p, space): v for p, v in vectors.items() if np.isfinite(v).all()}
        records = {k: self._records.pack_vector(k, v) for k, v in keyed.items()}
        self._cache.put_many(records, client=client)

    def _key(self, prompt: str, space: str) -> bytes:
        return self._prefix + in_space(space, hashlib.sha256(prompt.encode()).hexdigest())

    def _read(self, key: bytes, record: bytes | None) -> Vector | None:
        if record is None:
            return None
        try:
            vector = self._records.unpack_vector(key, record, self._dim)
        except BadRecord as bad:
            self._cache.stats.values[bad.verdict] += 1
            return None
        self._cache.stats.values[Verdict.GOOD] += 1
        return vector


def _namespace(bundle: Bundle, runtime: Runtime) -> str:
    """Name what vectors depend on beside the prompt: servers that differ in it share none."""
    builds = [b for b in bundle.manifest.precisions if b.precision == runtime.precision]
    graphs = [
        bundle.manifest.files[build.graphs["text_encoder"]]
        for build in builds
        if "text_encoder" in build.graphs and build.runs_on(runtime.name)
    ]
    parts = [bundle.text_hash, runtime.name, runtime.precision, *graphs]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
