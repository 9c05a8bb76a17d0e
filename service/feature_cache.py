"""Clips that were encoded once: their features, by content, sampling and bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from model.inputs import VideoInfo
from service.request import Sampling


@dataclass(frozen=True)
class EncodedClip:
    """What the video encoder made of a clip: named arrays (V,…), and the facts of the clip."""

    features: Mapping[str, NDArray[np.float32]]
    info: VideoInfo
    frame_times_s: tuple[float, ...]

    @property
    def nbytes(self) -> int:
        """Memory of the features."""
        return sum(array.nbytes for array in self.features.values())


class FeatureCache:
    """Bounded in bytes and age; the oldest goes first."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._clips: TTLCache[str, EncodedClip] = TTLCache(
            max_bytes, ttl_s, getsizeof=lambda clip: clip.nbytes + 1024
        )

    def get(self, video_id: str) -> EncodedClip | None:
        """The clip, if it is still held."""
        return self._clips.get(video_id)

    def put(self, video_id: str, clip: EncodedClip) -> None:
        """Hold a clip; one that is larger than the whole cache is not held."""
        if clip.nbytes + 1024 <= self._clips.maxsize:
            self._clips[video_id] = clip

    @property
    def nbytes(self) -> int:
        """Memory in use."""
        return int(self._clips.currsize)


def video_id(content_sha256: str, sampling: Sampling, bundle_hash: str) -> str:
    """The same bytes, sampled alike, under the same bundle have the same id."""
    parts = [content_sha256, sampling.views, sampling.start, sampling.end, bundle_hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
