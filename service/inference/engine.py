"""From a valid request to its answer: decode, encode, text, score. Knows nothing of HTTP.

One bundle, one runtime. Stages of different requests overlap: decoding runs in its own processes,
the network on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.runtime import Runtime
from service.cache.clips import FeatureCache, FeatureStore
from service.cache.labels import LabelStore
from service.cache.spaces import Spaces
from service.contract.answer import Classification, ModelName, StoredVideo, VideoCacheUse
from service.contract.embeddings import EmbeddingQuestion, Embeddings
from service.contract.errors import ApiError
from service.contract.request import KnownClip, Question, UploadedClip
from service.contract.timeline import TimelineLine, TimelineQuestion
from service.decode import DecodePool
from service.inference.batching import VideoBatcher
from service.inference.classification import ClassificationMaker, ScoredClip
from service.inference.clip_pipeline import ClipPipeline
from service.inference.embeddings import EmbeddingMaker
from service.inference.inference_thread import InferenceThread
from service.inference.label_scoring import ALONE, LabelScorer
from service.inference.question_memory import question_bytes
from service.inference.stage_timer import StageTimer
from service.inference.timeline import TimelineMaker
from service.settings import Settings
from service.sharing.costs import Charge, free
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

GPU_BATCH = 16  # clips
THREADS_BESIDE = 2  # for what would hold up the event loop


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
        self._name = name = ModelName(
            name=manifest.name,
            bundle=f"sha256:{bundle.hash}",
            precision=runtime.precision,
            runtime=runtime.name,
        )
        self._classifications = ClassificationMaker(
            manifest, name, self._clips, self.labels, self._beside, telemetry
        )
        self._embeddings = EmbeddingMaker(
            bundle, name, self._clips, self.labels, self._beside, telemetry
        )
        self._timelines = TimelineMaker(
            manifest,
            name,
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
        return await self._classifications.make(clip, question, client)

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
        return await self._classifications.score(clip, question, timer, client)

    async def timeline(
        self, clip: UploadedClip, asked: TimelineQuestion, client: str = ""
    ) -> AsyncGenerator[TimelineLine, None]:
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
        return await self._embeddings.make(clip, question, client)

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
