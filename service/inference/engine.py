"""From a valid request to its answer: decode, encode, text, score. Knows nothing of HTTP.

One bundle, one runtime. Stages of different requests overlap: decoding runs in its own processes,
the network on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, LabelSet
from export.runtime import Runtime
from export.runtime.contract import PAIRS_PER_RUN
from model.inputs import label_prompts
from service.cache.clips import EncodedClip, FeatureCache, FeatureStore
from service.cache.labels import LabelCache, LabelStore, LabelVectors
from service.contract.answer import (
    CacheUse,
    Classification,
    ModelName,
    Prediction,
    Shortlist,
    StoredVideo,
    VideoCacheUse,
)
from service.contract.errors import ApiError
from service.contract.request import KnownClip, Question, UploadedClip
from service.decode import DecodePool
from service.inference.batching import VideoBatcher
from service.inference.clip_pipeline import ClipPipeline
from service.inference.doubts import label_doubts
from service.inference.inference_thread import InferenceThread
from service.inference.ranking import rank
from service.inference.score_batching import ScoreBatcher
from service.inference.shortlist import VIDEO, can_compare, nearest
from service.inference.stage_timer import StageTimer
from service.inference.text_batching import TextEncoder
from service.settings import Settings
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

GPU_BATCH = 16  # clips
ALONE = 1  # the size of a batch that nothing else fits into
RANKED_IN_THREAD_FROM = 1000  # labels; about a millisecond
PROMPTED_IN_THREAD_FROM = 1000  # prompts; about a millisecond
THREADS_BESIDE = 2  # for what would hold up the event loop
BYTES_BESIDE_VECTOR = 400  # prompt, array header and bookkeeping of a kept label


@dataclass(frozen=True)
class Stores:
    """What is shared between servers; None where nothing is."""

    labels: LabelStore | None = None
    clips: FeatureStore | None = None


class Engine:
    """A bundle being served."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        pool: DecodePool,
        settings: Settings,
        telemetry: EngineTelemetry,
        stores: Stores = Stores(),
    ) -> None:
        manifest = bundle.manifest
        self.bundle, self.runtime, self.pool = bundle, runtime, pool
        self.thread = InferenceThread()
        self.features = FeatureCache(
            settings.video_cache_bytes, settings.video_cache_ttl_s, stores.clips
        )
        together = runtime.prefers_batches
        max_clips = settings.max_batch_clips or (GPU_BATCH if together else ALONE)
        batcher = VideoBatcher(self.thread, runtime.encode_video, max_clips, telemetry.batch_ran)
        self._clips = ClipPipeline(
            f"{bundle.hash} {runtime.precision}", pool, batcher, self.features
        )
        tokenizer, limit_s = bundle.tokenizer(), settings.request_timeout_s
        self._beside = FairThreads(THREADS_BESIDE, "beside")
        encoder = TextEncoder(
            runtime, tokenizer, manifest.inputs, self.thread, limit_s, self._beside
        )
        self._max_prompts = settings.max_prompts or settings.max_labels
        self._max_prompt_chars = settings.max_text_bytes
        self._scores = ScoreBatcher(self.thread, runtime, PAIRS_PER_RUN if together else ALONE)
        entries = settings.label_cache_bytes // (4 * manifest.text_dim + BYTES_BESIDE_VECTOR)
        self.labels = LabelCache(encoder.encode, max(1, entries), stores.labels, encoder.check_time)
        spec = manifest.inputs
        self._probe_ids = tokenizer.encode(["a"], spec.context_length, spec.pad_id)
        self._telemetry = telemetry
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
        """End the inference thread and the runtime; the pool is the caller's."""
        self.thread.close()
        self._beside.close()
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
        """Return a stored list; ApiError `unknown_label_set` where there is none."""
        if name not in self._sets:
            known = ", ".join(sorted(self._sets)) or "none in this bundle"
            raise ApiError(
                "unknown_label_set", f"there is no label_set {name[:60]!r}; there are: {known}"
            )
        return self._sets[name]

    async def classify(
        self, clip: UploadedClip | KnownClip, question: Question, client: str = ""
    ) -> Classification:
        """Rank labels for a clip.

        Args:
            clip: The bytes of a clip with how to sample them, or the id of an earlier one. The
                upload stays the caller's to close.
            question: The labels and what is wanted of their scores.
            client: Who asks; those who wait for the same stage are served in turn.

        Returns:
            The predictions, best first, with the facts of the clip and what it cost.

        Raises:
            VideoError: The clip cannot be used; its `code` and `detail` say why.
            ApiError: The question does not fit this bundle, or the server cannot answer it now.
        """
        if question.shortlist is not None and not can_compare(self.bundle.manifest):
            raise ApiError(
                "bad_field",
                "shortlist compares labels with the clip's vector, and this network gives none of "
                "their length; leave it out",
            )
        timer = StageTimer(self._telemetry.stage_ended)
        text = asyncio.create_task(self._text(question, timer, client))
        video = asyncio.create_task(self._clips.encoded(clip, timer, client))
        try:
            (labels, vectors), encoded = await asyncio.gather(text, video)
        finally:
            await _cancel(text, video)
        all_labels, candidates, shortlist = labels, vectors.vectors, None
        if question.shortlist is not None and question.shortlist < len(labels):
            shortlist = await self._shortlist(
                question.shortlist, encoded.clip, candidates, timer, client
            )
            labels = [labels[index] for index in shortlist]
            candidates = candidates[shortlist]
        logits = await self._score(encoded.clip, candidates, timer, client)
        predictions = await self._ranked(labels, logits, question.top_k, client)
        if shortlist is not None:
            for prediction in predictions:  # of the short list: say where in the whole one
                prediction.index = shortlist[prediction.index]
        self._telemetry.answered(timer.seconds, encoded.cache, vectors.hits, vectors.misses)
        info = encoded.clip.info
        return Classification(
            model=self._name,
            video_id=encoded.video_id,
            predictions=predictions,
            video=info,
            timing_ms=timer.timing(),
            cache=CacheUse(video=encoded.cache, text_hits=vectors.hits, text_misses=vectors.misses),
            shortlist=Shortlist(compared=len(all_labels), scored=len(labels))
            if question.shortlist
            else None,
            warnings=(
                *self.bundle.manifest.warnings,
                *label_doubts(all_labels),
                *info.warnings,
            ),
        )

    async def encode(self, clip: UploadedClip | KnownClip, client: str = "") -> StoredVideo:
        """Encode a clip and keep what the network made of it; raises as `classify` does."""
        timer = StageTimer(self._telemetry.stage_ended)
        encoded = await self._clips.encoded(clip, timer, client)
        self._telemetry.answered(timer.seconds, encoded.cache, 0, 0)
        return StoredVideo(
            model=self._name,
            video_id=encoded.video_id,
            video=encoded.clip.info,
            timing_ms=timer.timing(),
            cache=VideoCacheUse(video=encoded.cache),
            warnings=(*self.bundle.manifest.warnings, *encoded.clip.info.warnings),
        )

    async def forget(self, video_id: str) -> None:
        """Have nothing of a clip be held any more, here or in what servers share.

        Raises:
            ApiError: `not_ready`, where what servers share cannot be asked now.
        """
        if not await self.features.forget(video_id):
            raise ApiError(
                "not_ready", "Redis may still hold the clip, and does not answer", retry_after_s=5
            )

    async def embed(
        self, labels: Sequence[str], templates: Sequence[str] = (), client: str = ""
    ) -> LabelVectors:
        """Return the vectors of labels: what is known of them, and the rest computed.

        Args:
            labels: K labels.
            templates: Prompts with one `{}` each, averaged; none for those that the network was
                trained with, as the bundle has them.

        Returns:
            float32 (K,D), and how many of the prompts were known.

        Raises:
            ApiError: `label_too_long`, or `too_many_labels` for the time that a request may take.
        """
        templates = templates or self.bundle.manifest.templates
        each = max(1, len(templates))
        if len(labels) * each < PROMPTED_IN_THREAD_FROM:
            prompts = label_prompts(labels, templates)
        else:
            prompts = await self._beside.run(partial(label_prompts, labels, templates), client)
        return await self.labels.get(prompts, each, client)

    async def warm_up(self) -> None:
        """Run every graph once, which is the first probe, too; raises what is wrong."""
        await self._run_finite(self.runtime.warm_up)

    async def probe(self) -> None:
        """Run a real, tiny inference through thread and runtime; raises what is wrong."""
        spec = self.bundle.manifest.inputs
        side = spec.image_size
        frames = np.zeros((1, spec.num_frames, side, side, 3), np.uint8)

        def run() -> NDArray[np.float32]:
            text = self.runtime.encode_text(self._probe_ids)
            return self.runtime.score(self.runtime.encode_video(frames), text[None])

        await self._run_finite(run)

    async def _run_finite(self, run: Callable[[], NDArray[np.float32]]) -> None:
        if not np.isfinite(await self.thread.run(run)).all():
            raise ArithmeticError("the network gives no finite number")

    # --- stages ------------------------------------------------------------------------------

    async def _text(
        self, question: Question, timer: StageTimer, client: str
    ) -> tuple[Sequence[str], LabelVectors]:
        """Return the labels and their vectors, one each, with how many prompts were known."""
        labels: Sequence[str] = question.labels
        if question.label_set is not None:
            stored = self.label_set(question.label_set)
            if not question.templates:
                return stored.labels, LabelVectors(stored.vectors, len(stored.labels), 0)
            labels = stored.labels
        self._check_prompts(labels, question.templates or self.bundle.manifest.templates)
        with timer.stage("text"):
            return labels, await self.embed(labels, question.templates, client)

    def _check_prompts(self, labels: Sequence[str], templates: Sequence[str]) -> None:
        """Refuse more prompts than a request may make, before any of them is made."""
        count = len(labels) * len(templates)
        characters = len(templates) * sum(map(len, labels)) + len(labels) * sum(map(len, templates))
        if count > self._max_prompts or characters > self._max_prompt_chars:
            raise ApiError(
                "too_many_labels",
                f"{len(labels)} labels in {len(templates)} templates make {count} prompts of "
                f"{characters} characters together, the limits are {self._max_prompts} and "
                f"{self._max_prompt_chars}; send fewer or shorter ones",
            )

    async def _shortlist(
        self,
        count: int,
        clip: EncodedClip,
        vectors: NDArray[np.float32],
        timer: StageTimer,
        client: str,
    ) -> list[int]:
        """Return the indices of the `count` labels nearest to the clip, ascending."""
        with timer.stage("score"):
            compare = partial(nearest, clip.features[VIDEO], vectors, count)
            indices: list[int] = (await self._beside.run(compare, client)).tolist()
        return indices

    async def _score(
        self, clip: EncodedClip, vectors: NDArray[np.float32], timer: StageTimer, client: str
    ) -> NDArray[np.float32]:
        """Score every view and label, (V,K), in one turn of the thread for each PAIRS_PER_RUN.

        In between others have theirs: a hundred thousand labels do not hold up a clip.
        """
        views = clip.views
        step = max(1, PAIRS_PER_RUN // views)  # as the runtime cuts: the result is the same
        parts: list[NDArray[np.float32]] = []
        for first in range(0, len(vectors), step):
            part = vectors[first : first + step]
            scored = await self._scores.score(clip.features, views, part, client)
            timer.add("queue", scored.queued_s)
            timer.add("score", scored.ran_s)
            parts.append(scored.answer)
        return np.concatenate(parts, axis=1)

    async def _ranked(
        self, labels: Sequence[str], logits: NDArray[np.float32], top_k: int | None, client: str
    ) -> tuple[Prediction, ...]:
        """Rank predictions; in a thread where there are so many that others would be held up."""
        scale, bias = self.bundle.manifest.logit_scale, self.bundle.manifest.logit_bias
        if len(labels) < RANKED_IN_THREAD_FROM:
            return rank(labels, logits, scale, bias, top_k)
        return await self._beside.run(partial(rank, labels, logits, scale, bias, top_k), client)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it has let go of what it uses."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
