"""From an upload, or the id of an earlier one, to an encoded clip: cache, decode, encode."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from service.cache.clips import EncodedClip, FeatureCache, video_id
from service.contract.errors import ApiError
from service.contract.request import Sampling
from service.contract.upload import Upload
from service.decode import DecodePool, DecodeUnavailable
from service.inference.batching import VideoBatcher
from service.inference.single_flight import SingleFlight
from service.inference.stage_timer import StageTimer


@dataclass(frozen=True)
class FoundClip:
    """An encoded clip, its id, and whether it was known before."""

    video_id: str
    clip: EncodedClip
    known: bool


class Clips:
    """The clips of one bundle in one precision (`network` tells both from all others)."""

    def __init__(
        self, network: str, pool: DecodePool, batcher: VideoBatcher, cache: FeatureCache
    ) -> None:
        self._network, self._pool, self._batcher, self._cache = network, pool, batcher, cache
        self._coming: SingleFlight[str, FoundClip] = SingleFlight()

    async def held(self, identity: str) -> FoundClip:
        """The clip of an earlier answer; ApiError where it has been forgotten."""
        clip = await self._cache.get(identity)
        if clip is None:
            raise ApiError(
                "unknown_video_id", "this video_id is no longer held; upload the clip again"
            )
        return FoundClip(identity, clip, known=True)

    async def uploaded(self, upload: Upload, sampling: Sampling, watch: StageTimer) -> FoundClip:
        """The clip of an upload; decoded and encoded once, however many ask at the same time."""
        identity = video_id(upload.sha256, sampling, self._network)

        def start() -> asyncio.Task[FoundClip]:
            source = upload.duplicate()  # others may wait for this clip longer than its sender
            task = asyncio.create_task(self._find(identity, source.fileno(), sampling, watch))
            task.add_done_callback(lambda _: source.close())
            return task

        return await self._coming.run(identity, start)

    async def _find(
        self, identity: str, source: int, sampling: Sampling, watch: StageTimer
    ) -> FoundClip:
        clip = await self._cache.get(identity)
        if clip is not None:
            return FoundClip(identity, clip, known=True)
        clip = await self._encode(source, sampling, watch)
        await self._cache.put(identity, clip)
        return FoundClip(identity, clip, known=False)

    async def _encode(self, source: int, sampling: Sampling, watch: StageTimer) -> EncodedClip:
        started = time.perf_counter()
        try:
            decoded = await self._pool.decode(
                source, views=sampling.views, start=sampling.start, end=sampling.end
            )
        except DecodeUnavailable:
            raise ApiError(
                "not_ready", "no decode worker can be had; ask again", retry_after_s=5
            ) from None
        watch.add("decode", time.perf_counter() - started)
        encoded = await self._batcher.encode(decoded.frames)
        watch.add("queue", encoded.queued_s)
        watch.add("encode", encoded.ran_s)
        return EncodedClip(encoded.answer, decoded.info)
