"""From a valid request to its answer: decode, encode, text, score. Knows nothing of HTTP.

One bundle, one runtime. Stages of different requests overlap: decoding runs in its own processes,
the network on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.runtime import Features, Runtime
from model.inputs import label_prompts
from model.inputs.text.lengths import token_lengths
from service.cache.clips import EncodedClip, FeatureCache, FeatureStore
from service.cache.labels import LabelStore, LabelVectors
from service.cache.spaces import Spaces
from service.contract.answer import (
    CacheUse,
    Classification,
    Explanation,
    ModelName,
    Shortlist,
    StoredVideo,
    VideoCacheUse,
)
from service.contract.embeddings import Embedding, EmbeddingQuestion, Embeddings, TokenUse
from service.contract.errors import ApiError
from service.contract.request import KnownClip, Question, UploadedClip
from service.contract.timeline import TimelineQuestion
from service.decode import DecodePool
from service.inference.answerable import (
    answer_doubts,
    check_answerable,
    check_embeddable,
    check_explainable,
)
from service.inference.batching import VideoBatcher
from service.inference.clip_pipeline import ClipPipeline, IdentifiedClip
from service.inference.doubts import label_doubts
from service.inference.embeddings import clip_vector, unit, write_vectors
from service.inference.explanation import explain_frames
from service.inference.inference_thread import InferenceThread
from service.inference.label_scoring import ALONE, LabelScorer
from service.inference.question_memory import question_bytes
from service.inference.ranking import Ranking, rank
from service.inference.shortlist import VIDEO
from service.inference.stage_timer import StageTimer
from service.inference.timeline import Line, TimelineMaker
from service.settings import Settings
from service.sharing.costs import Charge, free
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

GPU_BATCH = 16  # clips

RANKED_IN_THREAD_FROM = 1000  # labels; about a millisecond

THREADS_BESIDE = 2  # for what would hold up the event loop


@dataclass(frozen=True)
class Stores:
    """What is shared between servers; None where nothing is."""

    labels: LabelStore | None = None
    clips: FeatureStore | None = None


@dataclass(frozen=True)
class ScoredClip:
    """What the network gave for a clip of V views.

    Attributes:
        asked: All labels of the question.
        labels: The K of them that were scored; all, without a shortlist.
        candidates: Their vectors, float32 (K,D).
        shortlist: Where they stand among all; None without a shortlist.
        logits: Float32 (V,K).
        negatives: Float32 (V,N), of labels that the question does not mean; with `open_set`.
        clip: The encoded clip.
        vectors: Those of all labels.
    """

    asked: Sequence[str]
    labels: Sequence[str]
    candidates: NDArray[np.float32]
    shortlist: list[int] | None
    logits: NDArray[np.float32]
    negatives: NDArray[np.float32] | None
    clip: IdentifiedClip
    vectors: LabelVectors


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
        charge: Charge = free,
    ) -> None:
        manifest = bundle.manifest
        self.bundle, self.runtime, self.pool = bundle, runtime, pool
        self.thread = InferenceThread(charge)
        self._max_views, self._max_windows = settings.max_views, settings.max_windows
        spaces = Spaces(settings.keeps_clients_apart)
        self.features = FeatureCache(
            settings.video_cache_bytes, settings.video_cache_ttl_s, stores.clips, spaces
        )
        together = runtime.prefers_batches
        max_clips = settings.max_batch_clips or (GPU_BATCH if together else ALONE)
        batcher = VideoBatcher(self.thread, runtime.encode_video, max_clips, telemetry.batch_ran)
        self._clips = ClipPipeline(
            f"{bundle.hash} {runtime.precision}", pool, batcher, self.features
        )
        self._beside = FairThreads(THREADS_BESIDE, "beside", charge)
        self.labels = LabelScorer(
            bundle, runtime, settings, self.thread, self._beside, stores.labels
        )
        spec = manifest.inputs
        self._probe_ids = bundle.tokenizer().encode(["a"], spec.context_length, spec.pad_id)
        self._telemetry = telemetry
        self._users = 0
        self._idle = asyncio.Event()
        self._name = ModelName(
            name=manifest.name,
            bundle=f"sha256:{bundle.hash}",
            precision=runtime.precision,
            runtime=runtime.name,
        )

        self._timelines = TimelineMaker(
            manifest,
            self._name,
            pool,
            batcher,
            max_clips,
            settings.max_windows,
            self.labels,
            self._beside,
            telemetry,
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

    def memory_for(self, question: object) -> int:
        """Return bytes of memory that a question may take until its answer is out."""
        return question_bytes(question, self.bundle.manifest, self._max_views, self._max_windows)

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
        timer = StageTimer(self._telemetry.stage_ended)
        scored = await self.score(clip, question, timer, client)
        encoded, vectors = scored.clip, scored.vectors
        ranking = await self._ranked(scored, question, client)
        if scored.shortlist is not None:
            for prediction in ranking.predictions:  # say where in the whole list
                prediction.index = scored.shortlist[prediction.index]
        explanation = None
        if question.explain is not None:
            explanation = await self._explained(check_explainable(clip), scored, timer, client)
        self._telemetry.answered(timer.seconds, encoded.cache, vectors.hits, vectors.misses)
        info = encoded.clip.info
        return Classification(
            model=self._name,
            video_id=encoded.video_id,
            predictions=ranking.predictions,
            video=info.facts(),
            timing_ms=timer.timing(),
            cache=CacheUse(video=encoded.cache, text_hits=vectors.hits, text_misses=vectors.misses),
            shortlist=Shortlist(compared=len(scored.asked), scored=len(scored.labels))
            if question.shortlist
            else None,
            none_of_these=ranking.none_of_these,
            label_set=ranking.label_set,
            explanation=explanation,
            warnings=(
                *self.bundle.manifest.warnings,
                *answer_doubts(question, self.bundle.manifest),
                *label_doubts(scored.asked),
                *info.warnings,
            ),
        )

    async def score(
        self,
        clip: UploadedClip | KnownClip,
        question: Question,
        timer: StageTimer,
        client: str = "",
    ) -> ScoredClip:
        """Return what the network gives for a clip and labels, before it is an answer.

        Raises as `classify` does.
        """
        check_answerable(question, self.bundle.manifest)
        if question.explain is not None:
            check_explainable(clip)
        text = asyncio.create_task(self.labels.text(question, timer, client))
        video = asyncio.create_task(self._clips.encoded(clip, timer, client))
        try:
            (asked, vectors), encoded = await asyncio.gather(text, video)
        finally:
            await _cancel(text, video)
        labels, candidates, shortlist = asked, vectors.vectors, None
        if question.shortlist is not None and question.shortlist < len(labels):
            shortlist = await self.labels.shortlist(
                question.shortlist, encoded.clip, candidates, timer, client
            )
            labels = [labels[index] for index in shortlist]
            candidates = candidates[shortlist]
        # A clip just encoded is answered before others are: behind all that wait, answers would
        # come in bursts, and so the next clips, for which the network would then have to wait.
        first = encoded.cache == "miss"
        logits = await self.labels.score(encoded.clip, candidates, timer, client, first=first)
        negatives = None
        if question.open_set:
            others = await self.labels.negatives(labels, candidates, timer, client)
            negatives = await self.labels.score(encoded.clip, others, timer, client, first=first)
        return ScoredClip(asked, labels, candidates, shortlist, logits, negatives, encoded, vectors)

    async def timeline(
        self, clip: UploadedClip, asked: TimelineQuestion, client: str = ""
    ) -> AsyncGenerator[Line, None]:
        """Yield the labels of a video window by window; see `TimelineMaker.lines`."""
        with clip.upload.duplicate() as source:
            lines = self._timelines.lines(source.fileno(), clip.sampling, asked, client)
            async with contextlib.aclosing(lines):
                async for line in lines:
                    yield line

    async def encode(self, clip: UploadedClip | KnownClip, client: str = "") -> StoredVideo:
        """Encode a clip and keep what the network made of it; raises as `classify` does."""
        timer = StageTimer(self._telemetry.stage_ended)
        encoded = await self._clips.encoded(clip, timer, client)
        self._telemetry.answered(timer.seconds, encoded.cache, 0, 0)
        return StoredVideo(
            model=self._name,
            video_id=encoded.video_id,
            video=encoded.clip.info.facts(),
            timing_ms=timer.timing(),
            cache=VideoCacheUse(video=encoded.cache),
            warnings=(*self.bundle.manifest.warnings, *encoded.clip.info.warnings),
        )

    async def forget(self, video_id: str, client: str = "") -> None:
        """Have nothing of a client's clip be held any more, here or in what servers share.

        Raises:
            ApiError: `not_ready`, where what servers share cannot be asked now.
        """
        if not await self.features.forget(video_id, client):
            raise ApiError(
                "not_ready", "Redis may still hold the clip, and does not answer", retry_after_s=5
            )

    async def embeddings(
        self, clip: UploadedClip | KnownClip, question: EmbeddingQuestion, client: str = ""
    ) -> Embeddings:
        """Return the vectors of the texts asked about; without texts, that of the clip.

        Raises:
            VideoError: The clip cannot be used.
            ApiError: As of `classify`; `bad_field` where vectors have another length than the
                client counts on, or the network gives none that can be compared.
        """
        check_embeddable(question, self.bundle.manifest)
        if question.texts:
            return await self._text_embeddings(question, client)
        timer = StageTimer(self._telemetry.stage_ended)
        encoded = await self._clips.encoded(clip, timer, client)
        self._telemetry.answered(timer.seconds, encoded.cache, 0, 0)
        vector = clip_vector(encoded.clip.features[VIDEO], normalize=question.normalize)
        return self._embeddings(vector[None], question, 0).model_copy(
            update={
                "video_id": encoded.video_id,
                "video": encoded.clip.info.facts(),
                "warnings": (*self.bundle.manifest.warnings, *encoded.clip.info.warnings),
            }
        )

    async def warm_up(self) -> None:
        """Run every graph once, which is the first probe, too; raises what is wrong."""
        await self._run_finite(self.runtime.warm_up)
        await self.labels.measure()

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

    async def _text_embeddings(self, question: EmbeddingQuestion, client: str) -> Embeddings:
        templates = question.templates or self.bundle.manifest.templates
        self.labels.check_prompts(question.texts, templates)
        vectors = (await self.labels.embed(question.texts, templates, client)).vectors
        if question.normalize:
            vectors = unit(vectors)

        def answer() -> Embeddings:
            return self._embeddings(vectors, question, self._tokens(question.texts, templates))

        return await self._beside.run(answer, client)  # it may be megabytes

    def _embeddings(
        self, vectors: NDArray[np.float32], question: EmbeddingQuestion, tokens: int
    ) -> Embeddings:
        written = write_vectors(vectors, as_base64=question.base64)
        return Embeddings(
            data=tuple(Embedding(index=i, embedding=each) for i, each in enumerate(written)),
            model=self._name.name,
            bundle=self._name.bundle,
            usage=TokenUse(prompt_tokens=tokens, total_tokens=tokens),
        )

    def _tokens(self, texts: Sequence[str], templates: Sequence[str]) -> int:
        spec = self.bundle.manifest.inputs
        prompts = label_prompts(texts, templates)
        ids = self.bundle.tokenizer().encode(prompts, spec.context_length, spec.pad_id)
        return int(token_lengths(ids, spec.tokenizer.pad).sum())

    async def _explained(
        self, clip: UploadedClip, scored: ScoredClip, timer: StageTimer, client: str
    ) -> Explanation:
        """Say what each frame adds to the best label: T + 1 more runs of the video encoder."""
        info = scored.clip.clip.info
        decoded = await self._clips.frames(clip, info.frame_rule, timer, client)

        async def encode(frames: NDArray[np.uint8]) -> Features:
            return await self._clips.encode(frames, timer, client)

        async def score(features: Features, of: slice) -> NDArray[np.float32]:
            clip = EncodedClip(features, info)
            return await self.labels.score(clip, scored.candidates[of], timer, client)

        return await explain_frames(
            decoded.frames, info.frame_times_s, scored.labels, scored.logits[0], encode, score
        )

    async def _ranked(self, scored: ScoredClip, question: Question, client: str) -> Ranking:
        """Rank predictions; in a thread where there are so many that others would be held up."""
        manifest = self.bundle.manifest
        ranked = partial(rank, scored.labels, scored.logits, question, manifest, scored.negatives)
        if len(scored.labels) < RANKED_IN_THREAD_FROM:
            return ranked()
        return await self._beside.run(ranked, client)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it has let go of what it uses."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
