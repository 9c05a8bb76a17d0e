"""Clip features that several servers share, in a Redis: the store behind each server's own memory.

A key tells everything that the features depend on: the file's content and the sampling (both are
in the id of the clip), the bundle, what runs it and in which precision. Neither keys nor values
hold a picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from export.bundle import Bundle
from export.runtime import Runtime
from service.cache.clips import EncodedClip
from service.cache.redis.client import SharedCache
from service.cache.redis.records import UNSIGNED, VERSION, BadRecord, ClipForm, Records, Verdict
from service.cache.redis.spaces import in_space
from service.cache.spaces import SHARED

# At a gigabit a second this is read in 35 ms, within the time-out; X-CLIP L/14 has 0.8 MB a view.
MAX_CLIP_BYTES = 4 << 20


class SharedClips:
    """The FeatureStore of one bundle and runtime in a shared cache; each clip for `ttl_s`."""

    def __init__(
        self,
        cache: SharedCache,
        bundle: Bundle,
        runtime: Runtime,
        ttl_s: float,
        records: Records = UNSIGNED,
    ) -> None:
        self._cache, self._ttl_s, self._records = cache, ttl_s, records
        self._form = _form(bundle)
        parts = [bundle.hash, runtime.name, runtime.precision]
        namespace = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        self._prefix = f"xclip:clip:{VERSION}:{namespace}:".encode()

    async def get(self, video_id: str, space: str = SHARED, client: str = "") -> EncodedClip | None:
        """Return the clip stored in a space, None where there is none that can be trusted."""
        key = self._prefix + in_space(space, video_id)
        (record,) = await self._cache.get_many([key], client)
        if record is None:
            return None
        # In a thread: the checksum of megabytes would hold up everybody else.
        try:
            clip = await asyncio.to_thread(self._records.unpack_clip, key, record, self._form)
        except BadRecord as bad:
            self._cache.stats.clips[bad.verdict] += 1
            return None
        self._cache.stats.clips[Verdict.GOOD] += 1
        return clip

    async def put(
        self, video_id: str, clip: EncodedClip, space: str = SHARED, client: str = ""
    ) -> None:
        """Have a clip of a space stored soon; none that is too large, or not of this bundle."""
        if clip.nbytes > MAX_CLIP_BYTES or not self._cache.writable:
            return
        key = self._prefix + in_space(space, video_id)
        with contextlib.suppress(ValueError):  # not what the manifest says: it stays here
            record = await asyncio.to_thread(self._records.pack_clip, key, clip, self._form)
            self._cache.put_many({key: record}, self._ttl_s, client)

    async def forget(self, video_id: str, space: str = SHARED) -> bool:
        """Drop a clip, also one that waits to be written; tell whether it is certainly gone."""
        return await self._cache.delete(self._prefix + in_space(space, video_id))


def _form(bundle: Bundle) -> ClipForm:
    """Read off the manifest what features look like, without the axis of clips."""
    manifest = bundle.manifest
    outputs = manifest.graphs["video_encoder"].outputs
    # An axis of free length, which no X-CLIP has, fits nothing: such features are not shared.
    shapes = {
        out.name: tuple(size if isinstance(size, int) else -1 for size in out.shape[1:])
        for out in outputs
    }
    return ClipForm(shapes, manifest.inputs.num_frames)
