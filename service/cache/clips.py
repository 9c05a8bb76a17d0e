"""Clips that were encoded once: their features, by content, sampling and bundle.

This process's memory is in front; an optional shared store behind it lets servers help each other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Protocol

from cachetools import TTLCache

from export.runtime import Features
from model.inputs import VideoInfo
from service.contract.request import Sampling

BYTES_BESIDE_FEATURES = 1024  # facts, times and bookkeeping of one clip, generously


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
        return BYTES_BESIDE_FEATURES + sum(array.nbytes for array in self.features.values())


class FeatureStore(Protocol):
    """Clips that several servers share. It may forget; it never raises or blocks long."""

    async def get(self, video_id: str) -> EncodedClip | None:
        """Return the stored clip, None where there is none."""

    async def put(self, video_id: str, clip: EncodedClip) -> None:
        """Store a clip."""

    async def forget(self, video_id: str) -> bool:
        """Drop a clip; tell whether it is certain that it is gone."""


class FeatureCache:
    """Bounded in bytes and age; what was used longest ago goes first."""

    def __init__(self, max_bytes: int, ttl_s: float, store: FeatureStore | None = None) -> None:
        self._store = store
        self._clips: TTLCache[str, EncodedClip] = TTLCache(
            max_bytes, ttl_s, getsizeof=lambda clip: clip.nbytes
        )

    async def get(self, video_id: str) -> EncodedClip | None:
        """Return the clip, if it is still held here or in the store."""
        clip = self._clips.get(video_id)
        if clip is None and self._store is not None:
            clip = await self._store.get(video_id)
            if clip is not None:
                self._hold(video_id, clip)
        return clip

    async def put(self, video_id: str, clip: EncodedClip) -> None:
        """Hold a clip; one that is larger than the whole cache is not held."""
        self._hold(video_id, clip)
        if self._store is not None:
            await self._store.put(video_id, clip)

    async def forget(self, video_id: str) -> bool:
        """Drop a clip, here and in the store; tell whether it is certain that it is gone."""
        self._clips.pop(video_id, None)
        return self._store is None or await self._store.forget(video_id)

    @property
    def nbytes(self) -> int:
        """Memory in use."""
        return int(self._clips.currsize)

    def _hold(self, video_id: str, clip: EncodedClip) -> None:
        if clip.nbytes <= self._clips.maxsize:
            # As plain arrays: fresh from a GPU, features hold memory there, too.
            self._clips[video_id] = replace(clip, features=dict(clip.features))


def video_id(content_sha256: str, sampling: Sampling, network: str) -> str:
    """Return the id of a clip: the same for the same bytes, sampling and network.

    Each id stands for the frames of one rule. By `auto` it is for the clips whose exact frames cost
    too much, and whose others were taken; of the rest `auto` has the id of `exact`.
    """
    parts = [content_sha256, sampling.views, sampling.start, sampling.end, network]
    if sampling.frame_rule != "exact":
        parts.append(sampling.frame_rule)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
