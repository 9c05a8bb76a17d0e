"""From an upload, or the id of an earlier one, to an encoded clip: cache, decode, encode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.runtime import Features
from model.inputs import Clip, FrameRule, VideoInfo, VideoWarning
from service.cache.clips import EncodedClip, FeatureCache, video_id
from service.cache.single_flight import SingleFlight
from service.contract.errors import ApiError
from service.contract.request import KnownClip, Sampling, UploadedClip
from service.contract.upload import Upload
from service.decode import DecodePool, DecodeUnavailable
from service.inference.batching import VideoBatcher
from service.inference.doubts import clip_doubts
from service.inference.stage_timer import StageTimer

CacheResult = Literal["hit", "miss"]
_Key = tuple[str, str]  # space and id


@dataclass(frozen=True)
class IdentifiedClip:
    """An encoded clip, its id, and whether it was known before."""

    video_id: str
    clip: EncodedClip
    cache: CacheResult


class ClipPipeline:
    """The clips of one bundle in one precision (`network` tells both from all others)."""

    def __init__(
        self, network: str, pool: DecodePool, batcher: VideoBatcher, cache: FeatureCache
    ) -> None:
        self._network, self._pool, self._batcher, self._cache = network, pool, batcher, cache
        self._flights: SingleFlight[_Key, IdentifiedClip] = SingleFlight()

    async def encoded(
        self, clip: UploadedClip | KnownClip, timer: StageTimer, client: str = ""
    ) -> IdentifiedClip:
        """Return the encoded clip; one upload is encoded once, however many send it at a time.

        Raises:
            VideoError: The clip cannot be used.
            ApiError: `unknown_video_id`, or `not_ready` where no decode worker can be had.
        """
        if isinstance(clip, KnownClip):
            return await self._known(clip.video_id, client)
        upload, sampling = clip.upload, clip.sampling
        key = self._key(upload, sampling, client)

        def start(_: list[_Key]) -> asyncio.Task[Mapping[_Key, IdentifiedClip]]:
            source = upload.duplicate()  # others may wait for this clip longer than its sender
            encode = self._encode(upload, source.fileno(), sampling, timer, client)
            task = asyncio.create_task(encode)
            task.add_done_callback(lambda _: source.close())
            return task

        return (await self._flights.run([key], start, client))[key]

    async def _known(self, identity: str, client: str) -> IdentifiedClip:
        clip = await self._cache.get(identity, client)
        if clip is None:
            raise ApiError(
                "unknown_video_id", "this video_id is no longer held; upload the clip again"
            )
        return IdentifiedClip(identity, clip, "hit")

    async def _encode(
        self, upload: Upload, source: int, sampling: Sampling, timer: StageTimer, client: str
    ) -> Mapping[_Key, IdentifiedClip]:
        key = self._key(upload, sampling, client)
        asked = key[1]
        exact = video_id(upload.sha256, replace(sampling, frame_rule="exact"), self._network)
        ids = [exact, asked] if sampling.frame_rule == "auto" else [asked]
        for identity, known in zip(ids, await self._held(ids, client), strict=True):
            if known is not None:
                return {key: IdentifiedClip(identity, known, "hit")}
        decoded = await self._decode(source, sampling, timer, client)
        features = await self.encode(decoded.frames, timer, client)
        clip = EncodedClip(features, _info(decoded, sampling))
        identity = exact if decoded.info.frame_rule is FrameRule.EXACT else asked
        await self._cache.put(identity, clip, client)
        return {key: IdentifiedClip(identity, clip, "miss")}

    async def frames(
        self, clip: UploadedClip, rule: FrameRule, timer: StageTimer, client: str = ""
    ) -> Clip:
        """Decode a clip that has been encoded by this rule once more: frames are not kept."""
        exact = rule is FrameRule.EXACT
        sampling = replace(clip.sampling, frame_rule="exact" if exact else "keyframes")
        with clip.upload.duplicate() as source:
            return await self._decode(source.fileno(), sampling, timer, client)

    async def encode(
        self, frames: NDArray[np.uint8], timer: StageTimer, client: str = ""
    ) -> Features:
        """Encode the views of a clip, uint8 (V,T,H,W,3); nothing is kept."""
        encoded = await self._batcher.encode(frames, client)
        timer.add("queue", encoded.queued_s)
        timer.add("encode", encoded.ran_s)
        return encoded.answer

    async def _decode(
        self, source: int, sampling: Sampling, timer: StageTimer, client: str
    ) -> Clip:
        try:
            with timer.stage("decode"):
                return await self._pool.decode(
                    source,
                    views=sampling.views,
                    start=sampling.start,
                    end=sampling.end,
                    frame_rule=sampling.frame_rule,
                    client=client,
                )
        except DecodeUnavailable:
            raise ApiError(
                "not_ready", "no decode worker can be had; ask again", retry_after_s=5
            ) from None

    def _key(self, upload: Upload, sampling: Sampling, client: str) -> _Key:
        return self._cache.spaces.of(client), video_id(upload.sha256, sampling, self._network)

    async def _held(self, ids: Sequence[str], client: str) -> list[EncodedClip | None]:
        return await asyncio.gather(*(self._cache.get(identity, client) for identity in ids))


def _info(clip: Clip, sampling: Sampling) -> VideoInfo:
    """Return the facts as answers give them: times to the millisecond, and what is doubtful."""
    info = clip.info
    times = tuple(round(time, 3) for time in info.frame_times_s)
    warnings = (*clip_doubts(clip), *info.warnings)
    if sampling.frame_rule == "auto" and info.frame_rule is FrameRule.KEYFRAMES:
        warnings = (*warnings, VideoWarning.KEY_FRAMES)
    return info.model_copy(update={"frame_times_s": times, "warnings": warnings})
