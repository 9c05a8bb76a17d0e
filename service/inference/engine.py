"""From a valid request to its answer: decode, encode, text, score. Knows nothing of HTTP.

One bundle, one runtime. Stages of different requests overlap: decoding runs in its own processes,
the network on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, LabelSet
from export.runtime import Runtime
from export.runtime.contract import PAIRS_PER_RUN
from service.cache.clips import EncodedClip, FeatureCache, FeatureStore
from service.cache.labels import LabelCache, LabelStore, LabelVectors
from service.contract.answer import (
    CacheUse,
    Classification,
    ModelName,
    Prediction,
    Shortlist,
    VideoFacts,
)
from service.contract.errors import ApiError
from service.contract.request import ClassifyRequest
from service.contract.upload import Upload
from service.decode import DecodePool
from service.inference.batching import VideoBatcher
from service.inference.clip_pipeline import Clips, FoundClip
from service.inference.inference_thread import InferenceThread
from service.inference.ranking import rank
from service.inference.score_batching import ScoreBatcher
from service.inference.shortlist import VIDEO, can_compare, nearest
from service.inference.stage_timer import StageTimer
from service.inference.text_batching import TextEncoder
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracing, Tracing

GPU_BATCH = 16  # clips
ALONE = 1  # the size of a batch that nothing else fits into
RANKED_IN_THREAD_FROM = 1000  # labels; about a millisecond
BYTES_BESIDE_VECTOR = 400  # prompt, array header and bookkeeping of a kept label


class Engine:
    """A bundle being served."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        pool: DecodePool,
        settings: Settings,
        metrics: Metrics,
        label_store: LabelStore | None = None,
        clip_store: FeatureStore | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.bundle, self.runtime, self.pool = bundle, runtime, pool
        self.thread = InferenceThread()
        self.features = FeatureCache(
            settings.video_cache_bytes, settings.video_cache_ttl_s, clip_store
        )
        batcher = VideoBatcher(
            self.thread,
            runtime.encode_video,
            _clips_at_once(settings, runtime),
            metrics.batch_clips.observe,
        )
        self._clips = Clips(f"{bundle.hash} {runtime.precision}", pool, batcher, self.features)
        tokenizer, limit_s = bundle.tokenizer(), settings.request_timeout_s
        together = runtime.prefers_batches
        encoder = TextEncoder(
            runtime, tokenizer, manifest.inputs, self.thread, limit_s, together=together
        )
        self._scores = ScoreBatcher(self.thread, runtime, PAIRS_PER_RUN if together else ALONE)
        entries = settings.label_cache_bytes // (4 * manifest.text_dim + BYTES_BESIDE_VECTOR)
        self.labels = LabelCache(encoder.encode, max(1, entries), label_store, encoder.check_time)
        self._probe_ids = tokenizer.encode(["a"])
        self._metrics, self._tracing = metrics, tracing or NoTracing()
        # Now, while they are what the manifest says: the folder may be replaced while we serve.
        self._sets = {name: bundle.label_set(name) for name in manifest.labels}
        self._users = 0
        self._idle = asyncio.Event()
        self._name = ModelName(
            name=manifest.name,
            bundle=f"sha256:{bundle.hash}",
            precision=runtime.precision,
            runtime=runtime.name,
        )

    def close(self) -> None:
        """End the thread and the runtime; the pool is the caller's."""
        self.thread.close()
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
        if name not in self._sets:
            known = ", ".join(sorted(self._sets)) or "none in this bundle"
            raise ApiError(
                "unknown_label_set", f"there is no label_set {name[:60]!r}; there are: {known}"
            )
        return self._sets[name]

    async def classify(self, request: ClassifyRequest, upload: Upload | None) -> Classification:
        """The answer to a request. VideoError or ApiError where there is none."""
        if request.shortlist is not None and not can_compare(self.bundle.manifest):
            raise ApiError(
                "bad_field",
                "shortlist compares labels with the clip's vector, and this network gives none of "
                "their length; leave it out",
            )
        watch = StageTimer(self._tracing.stage)
        text = asyncio.create_task(self._text(request, watch))
        video = asyncio.create_task(self._video(request, upload, watch))
        try:
            (labels, vectors), found = await asyncio.gather(text, video)
        finally:
            await _give_up(text, video)
        asked = len(labels)
        labels, candidates = await self._shortlisted(
            request.shortlist, found.clip, labels, vectors.vectors, watch
        )
        logits = await self._score(found.clip, candidates, watch)
        known: Literal["hit", "miss"] = "hit" if found.known else "miss"
        self._count(watch, known, vectors)
        scale = self.bundle.manifest.logit_scale
        return Classification(
            model=self._name,
            video_id=found.video_id,
            predictions=await _ranked(labels, logits, scale, request.top_k),
            video=_facts(found.clip),
            timing_ms=watch.timing(),
            cache=CacheUse(video=known, text_hits=vectors.hits, text_misses=vectors.misses),
            shortlist=Shortlist(compared=asked, scored=len(labels)) if request.shortlist else None,
            warnings=self.bundle.manifest.warnings,
        )

    async def warm_up(self) -> None:
        """Every graph run once, which is the first probe, too; raises what is wrong."""
        await self._tried(self.runtime.warm_up)

    async def probe(self) -> None:
        """A real, tiny inference through thread and runtime; raises what is wrong."""
        spec = self.bundle.manifest.inputs
        side = spec.image_size
        frames = np.zeros((1, spec.num_frames, side, side, 3), np.uint8)

        def run() -> NDArray[np.float32]:
            text = self.runtime.encode_text(self._probe_ids)
            return self.runtime.score(self.runtime.encode_video(frames), text[None])

        await self._tried(run)

    async def _tried(self, run: Callable[[], NDArray[np.float32]]) -> None:
        logits, _, _ = await self.thread.run(run)
        if not np.isfinite(logits).all():
            raise ArithmeticError("the network gives no finite number")

    # --- stages ------------------------------------------------------------------------------

    async def _text(
        self, request: ClassifyRequest, watch: StageTimer
    ) -> tuple[Sequence[str], LabelVectors]:
        """The labels and their vectors, one each, with how many prompts were known."""
        if request.label_set is not None:
            stored = self.label_set(request.label_set)
            return stored.labels, LabelVectors(stored.vectors, len(stored.labels), 0)
        started = time.perf_counter()
        prompts = [prompt for label in request.prompts for prompt in label]
        found = await self.labels.get(prompts, each=len(request.prompts[0]))
        watch.add("text", time.perf_counter() - started)
        return request.labels, found

    async def _video(
        self, request: ClassifyRequest, upload: Upload | None, watch: StageTimer
    ) -> FoundClip:
        if upload is not None:
            return await self._clips.uploaded(upload, request.sampling, watch)
        assert request.video_id is not None
        return await self._clips.held(request.video_id)

    async def _score(
        self, clip: EncodedClip, vectors: NDArray[np.float32], watch: StageTimer
    ) -> NDArray[np.float32]:
        """Logits (V,K) of every view and label, one turn of the thread for each PAIRS_PER_RUN.

        In between others have theirs: a hundred thousand labels do not hold up a clip.
        """
        views = clip.views
        step = max(1, PAIRS_PER_RUN // views)  # as the runtime cuts: the result is the same
        parts: list[NDArray[np.float32]] = []
        for first in range(0, len(vectors), step):
            part = vectors[first : first + step]
            scored = await self._scores.score(clip.features, views, part)
            watch.add("queue", scored.queued_s)
            watch.add("score", scored.ran_s)
            parts.append(scored.answer)
        return np.concatenate(parts, axis=1)

    async def _shortlisted(
        self,
        count: int | None,
        clip: EncodedClip,
        labels: Sequence[str],
        vectors: NDArray[np.float32],
        watch: StageTimer,
    ) -> tuple[Sequence[str], NDArray[np.float32]]:
        """The `count` labels nearest to the clip and their vectors; all where that is no fewer."""
        if count is None or count >= len(labels):
            return labels, vectors
        started = time.perf_counter()
        places = await asyncio.to_thread(nearest, clip.features[VIDEO], vectors, count)
        watch.add("score", time.perf_counter() - started)
        return [labels[place] for place in places], vectors[places]

    def _count(self, watch: StageTimer, video: Literal["hit", "miss"], text: LabelVectors) -> None:
        for stage, seconds in watch.seconds.items():
            self._metrics.stage_seconds.labels(stage).observe(seconds)
        self._metrics.count_caches(video, text.hits, text.misses)


async def _give_up(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it has let go of what it uses."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ranked(
    labels: Sequence[str], logits: NDArray[np.float32], scale: float, top_k: int | None
) -> tuple[Prediction, ...]:
    """Ranked predictions; in a thread where there are so many that others would be held up."""
    if len(labels) < RANKED_IN_THREAD_FROM:
        return rank(labels, logits, scale, top_k)
    return await asyncio.to_thread(rank, labels, logits, scale, top_k)


def _facts(clip: EncodedClip) -> VideoFacts:
    info = clip.info
    return VideoFacts(
        duration_s=info.duration_s,
        fps=info.fps,
        width=info.width,
        height=info.height,
        codec=info.codec,
        frame_times_s=tuple(round(t, 3) for t in info.frame_times_s),
    )


def _clips_at_once(settings: Settings, runtime: Runtime) -> int:
    return settings.max_batch_clips or (GPU_BATCH if runtime.prefers_batches else ALONE)
