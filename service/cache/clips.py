"""Clips that were encoded once: their features, by content, sampling and bundle.

This process's memory is in front; an optional shared store behind it lets servers help each other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Protocol

from export.runtime import Features
from model.inputs import VideoInfo
from service.cache.spaces import ONE_SPACE, Spaces
from service.contract.request import Sampling
from service.sharing.owned_cache import OwnedCache

BYTES_BESIDE_FEATURES = 3072  # facts and bookkeeping of one clip, generously
BYTES_PER_TIME = 40  # of one frame: a number of Python, and its place in a tuple


@dataclass(frozen=True)
class EncodedClip:
    """What the video encoder made of a clip: named arrays (V,…), and the facts of the clip."""

    features: Features
    info: VideoInfo

    @property
    def views(self) -> int:
        """How many views V of the clip there are."""
        return len(next(iter(self.features.values())))

    @property
    def nbytes(self) -> int:
        """Memory of the clip."""
        beside = BYTES_BESIDE_FEATURES + BYTES_PER_TIME * len(self.info.frame_times_s)
        return beside + sum(array.nbytes for array in self.features.values())


class FeatureStore(Protocol):
    """Clips that several servers share. It may forget; it never raises or blocks long."""

    async def get(self, video_id: str, space: str, client: str) -> EncodedClip | None:
        """Return the clip stored in a space, None where there is none; clients in turn."""

    async def put(self, video_id: str, clip: EncodedClip, space: str, client: str) -> None:
        """Store a clip in a space, for a client."""

    async def forget(self, video_id: str, space: str) -> bool:
        """Drop a clip of a space; tell whether it is certain that it is gone."""


class FeatureCache:
    """Bounded in bytes and age; one client has half, and when full, who holds most gives way.

    Where `spaces` are private nobody finds the clip of another, though he knows its id.
    """

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        store: FeatureStore | None = None,
        spaces: Spaces = ONE_SPACE,
    ) -> None:
        self._store, self.spaces = store, spaces
        self._clips: OwnedCache[tuple[str, str], EncodedClip] = OwnedCache(
            max_bytes, lambda _, clip: clip.nbytes, ttl_s
        )

    async def get(self, video_id: str, client: str = "") -> EncodedClip | None:
        """Return the clip, if it is still held for this client, here or in the store."""
        space = self.spaces.of(client)
        clip = self._clips.get((space, video_id))
        if clip is None and self._store is not None:
            clip = await self._store.get(video_id, space, client)
            if clip is not None:
                self._hold(video_id, clip, client)
        return clip

    async def put(self, video_id: str, clip: EncodedClip, client: str = "") -> None:
        """Hold a clip of a client; one that is larger than half of the cache is not held."""
        self._hold(video_id, clip, client)
        if self._store is not None:
            await self._store.put(video_id, clip, self.spaces.of(client), client)

    async def forget(self, video_id: str, client: str = "") -> bool:
        """Drop what this client finds, here and in the store; tell whether it is certainly gone."""
        space = self.spaces.of(client)
        self._clips.drop((space, video_id))
        return self._store is None or await self._store.forget(video_id, space)

    @property
    def nbytes(self) -> int:
        """Memory in use."""
        return self._clips.nbytes

    def _hold(self, video_id: str, clip: EncodedClip, client: str) -> None:
        # As plain arrays: fresh from a GPU, features hold memory there, too.
        plain = replace(clip, features=dict(clip.features))
        self._clips.put(client, (self.spaces.of(client), video_id), plain)


def video_id(content_sha256: str, sampling: Sampling, network: str) -> str:
    """Return the id of a clip: the same for the same bytes, sampling and network.

    Each id stands for the frames of one rule. By `auto` it is for the clips whose exact frames cost
    too much, and whose others were taken; of the rest `auto` has the id of `exact`.
    """
    parts = [content_sha256, sampling.views, sampling.start, sampling.end, network]
    if sampling.frame_rule != "exact":
        parts.append(sampling.frame_rule)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
