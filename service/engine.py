"""From a valid request to its answer: decode, encode, text, score. Knows nothing of HTTP.

One bundle, one runtime. Stages of different requests overlap: decoding runs in its own processes,
the network on the lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, LabelSet
from export.runtime import Runtime
from service.decode import DecodePool, DecodeUnavailable
from service.errors import ApiError
from service.feature_cache import EncodedClip, FeatureCache, video_id
from service.label_cache import LabelCache, LabelStore
from service.lane import Lane
from service.metrics import Metrics
from service.multipart import Upload
from service.request import ClassifyRequest, Sampling
from service.schemas import CacheUse, Classification, ModelName, Timing, VideoFacts
from service.scoring import rank
from service.settings import Settings
from service.single_flight import SingleFlight
from service.text import TextEncoder


@dataclass
class Stopwatch:
    """Seconds by stage of one request."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """More time in a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timing(self) -> Timing:
        """As the answer gives it."""
        total = time.perf_counter() - self.started
        return Timing(
            **{stage: round(1000 * s, 2) for stage, s in self.seconds.items()},
            total=round(1000 * total, 2),
        )


class Engine:
    """A bundle being served."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        pool: DecodePool,
        settings: Settings,
        metrics: Metrics,
        store: LabelStore | None = None,
    ) -> None:
        self.bundle, self.runtime, self.pool = bundle, runtime, pool
        self.lane = Lane()
        self.features = FeatureCache(settings.video_cache_bytes, settings.video_cache_ttl_s)
        manifest = bundle.manifest
        encoder = TextEncoder(runtime, bundle.tokenizer(), manifest.inputs, self.lane)
        self.labels = LabelCache(encoder.encode, settings.label_cache_entries, store)
        self._metrics = metrics
        self._clips: SingleFlight[str, EncodedClip] = SingleFlight()
        self._sets: dict[str, LabelSet] = {}
        self._users = 0
        self._idle = asyncio.Event()
        self._name = ModelName(
            name=manifest.name,
            bundle=f"sha256:{bundle.hash}",
            precision=runtime.precision,
            runtime=runtime.name,
        )

    def close(self) -> None:
        """End the lane and the runtime; the pool is the caller's."""
        self.lane.close()
        self.runtime.close()

    @contextlib.contextmanager
    def use(self) -> Iterator[Engine]:
        """Hold the engine open for the length of a request."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def unused(self) -> None:
        """Wait until nobody uses the engine."""
        while self._users:
            self._idle.clear()
            await self._idle.wait()

    def label_set(self, name: str) -> LabelSet:
        """A stored list; ApiError where there is none."""
        if name not in self.bundle.manifest.labels:
            known = ", ".join(sorted(self.bundle.manifest.labels)) or "none in this bundle"
            raise ApiError(
                "unknown_label_set", f"there is no label_set {name[:60]!r}; there are: {known}"
            )
        if name not in self._sets:
            self._sets[name] = self.bundle.label_set(name)
        return self._sets[name]

    async def classify(self, request: ClassifyRequest, upload: Upload | None) -> Classification:
        """The answer to a request. VideoError or ApiError where there is none."""
        watch = Stopwatch()
        text_task = asyncio.ensure_future(self._text(request, watch))
        try:
            identity, clip, known = await self._clip(request, upload, watch)
            labels, vectors, hits, misses = await text_task
        finally:
            text_task.cancel()
        logits = await self._score(clip, vectors, watch)
        for stage, seconds in watch.seconds.items():
            self._metrics.stage_seconds.labels(stage).observe(seconds)
        self._metrics.count_caches("hit" if known else "miss", hits, misses)
        info = clip.info
        return Classification(
            model=self._name,
            video_id=identity,
            predictions=rank(labels, logits, self.bundle.manifest.logit_scale, request.top_k),
            video=VideoFacts(
                duration_s=info.duration_s,
                fps=info.fps,
                width=info.width,
                height=info.height,
                codec=info.codec,
                frame_times_s=tuple(round(t, 3) for t in clip.frame_times_s),
            ),
            timing_ms=watch.timing(),
            cache=CacheUse(video="hit" if known else "miss", text_hits=hits, text_misses=misses),
            warnings=self.bundle.manifest.warnings,
        )

    async def probe(self) -> None:
        """A real, tiny inference through lane and runtime; raises what is wrong."""
        spec = self.bundle.manifest.inputs
        side = spec.image_size
        frames = np.zeros((1, spec.num_frames, side, side, 3), np.uint8)
        ids = self.bundle.tokenizer().encode(["a"], spec.context_length, spec.pad_id)

        def run() -> NDArray[np.float32]:
            text = self.runtime.encode_text(ids)
            return self.runtime.score(self.runtime.encode_video(frames), text[None])

        logits, _, _ = await self.lane.run(run)
        if not np.isfinite(logits).all():
            raise RuntimeError("the network gives no finite number")

    # --- stages ------------------------------------------------------------------------------

    async def _text(
        self, request: ClassifyRequest, watch: Stopwatch
    ) -> tuple[Sequence[str], NDArray[np.float32], int, int]:
        started = time.perf_counter()
        if request.label_set is not None:
            stored = self.label_set(request.label_set)
            return stored.labels, stored.vectors, len(stored.labels), 0
        prompts = [p for label in request.prompts for p in label]
        found = await self.labels.get(prompts)
        each = len(request.prompts[0])
        # Means of what the encoder gives, not of unit vectors: the prompt head reads their length.
        vectors = found.vectors.reshape(len(request.labels), each, -1).mean(axis=1)
        watch.add("text", time.perf_counter() - started)
        return request.labels, vectors, found.hits, found.misses

    async def _clip(
        self, request: ClassifyRequest, upload: Upload | None, watch: Stopwatch
    ) -> tuple[str, EncodedClip, bool]:
        if upload is None:
            assert request.video_id is not None
            held = self.features.get(request.video_id)
            if held is None:
                raise ApiError(
                    "unknown_video_id", "this video_id is no longer held; upload the clip again"
                )
            return request.video_id, held, True
        identity = video_id(upload.sha256, request.sampling, self.bundle.hash)
        held = self.features.get(identity)
        if held is not None:
            return identity, held, True
        clip = await self._clips.run(
            identity, lambda: self._encode(identity, upload, request.sampling, watch)
        )
        return identity, clip, False

    async def _encode(
        self, identity: str, upload: Upload, sampling: Sampling, watch: Stopwatch
    ) -> EncodedClip:
        started = time.perf_counter()
        try:
            clip = await self.pool.decode(
                upload.file.fileno(), views=sampling.views, start=sampling.start, end=sampling.end
            )
        except DecodeUnavailable:
            raise ApiError(
                "not_ready", "no decode worker can be had; ask again", retry_after_s=5
            ) from None
        watch.add("decode", time.perf_counter() - started)
        features, queued, ran = await self.lane.run(lambda: self.runtime.encode_video(clip.frames))
        watch.add("queue", queued)
        watch.add("encode", ran)
        encoded = EncodedClip(features, clip.info, clip.frame_times_s)
        self.features.put(identity, encoded)
        return encoded

    async def _score(
        self, clip: EncodedClip, vectors: NDArray[np.float32], watch: Stopwatch
    ) -> NDArray[np.float32]:
        views = len(next(iter(clip.features.values())))
        text = np.broadcast_to(vectors, (views, *vectors.shape))
        logits, queued, ran = await self.lane.run(
            lambda: self.runtime.score(clip.features, np.ascontiguousarray(text))
        )
        watch.add("queue", queued)
        watch.add("score", ran)
        return logits
