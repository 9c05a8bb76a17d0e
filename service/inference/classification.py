"""Labels ranked for one clip: clip and labels side by side, then the score, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from export.runtime import Features
from service.cache.clips import EncodedClip
from service.cache.labels import LabelVectors
from service.contract.answer import (
    CacheUse,
    Classification,
    Explanation,
    ModelName,
    Prediction,
    Shortlist,
)
from service.contract.request import KnownClip, Question, UploadedClip
from service.inference.answerable import answer_doubts, check_answerable, check_explainable
from service.inference.clip_pipeline import ClipPipeline, IdentifiedClip
from service.inference.doubts import label_doubts
from service.inference.explanation import explain_frames
from service.inference.label_scoring import LabelScorer
from service.inference.ranking import Ranking, rank
from service.inference.rivals import contrast_of, nearest_rivals
from service.inference.stage_timer import StageTimer
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

RANKED_IN_THREAD_FROM = 1000  # labels; about a millisecond


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


@dataclass(frozen=True)
class ClassificationMaker:
    """Ranks labels for clips with one bundle.

    Attributes:
        manifest: Of the bundle.
        name: What answers.
        clips: Encodes clips, or knows them.
        labels: Knows labels and scores them.
        beside: For what would hold up the event loop.
        telemetry: Told of the work.
    """

    manifest: BundleManifest
    name: ModelName
    clips: ClipPipeline
    labels: LabelScorer
    beside: FairThreads
    telemetry: EngineTelemetry

    async def make(
        self, clip: UploadedClip | KnownClip, question: Question, client: str = ""
    ) -> Classification:
        """Return the answer; see `Engine.classify`."""
        timer = StageTimer(self.telemetry.stage_ended)
        scored = await self.score(clip, question, timer, client)
        encoded, vectors = scored.clip, scored.vectors
        ranking = await self._ranked(scored, question, client)
        explanation = None
        if question.explain is not None:
            own = check_explainable(clip)
            best = ranking.predictions[0]
            explanation = await self._explained(own, scored, question, best, timer, client)
        if scored.shortlist is not None:
            for prediction in ranking.predictions:  # say where in the whole list
                prediction.index = scored.shortlist[prediction.index]
        self.telemetry.answered(timer.seconds, encoded.cache, vectors.hits, vectors.misses)
        info = encoded.clip.info
        return Classification(
            model=self.name,
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
                *self.manifest.warnings,
                *answer_doubts(question, self.manifest),
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

        Raises as `Engine.classify` does.
        """
        check_answerable(question, self.manifest)
        if question.explain is not None:
            check_explainable(clip)
        (asked, vectors), encoded = await self._both(clip, question, timer, client)
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

    async def _both(
        self, clip: UploadedClip | KnownClip, question: Question, timer: StageTimer, client: str
    ) -> tuple[tuple[Sequence[str], LabelVectors], IdentifiedClip]:
        """Return the labels with their vectors, and the clip: side by side where it is decoded."""
        if isinstance(clip, KnownClip):  # or no longer: then nothing is done for its labels
            encoded = await self.clips.encoded(clip, timer, client)
            return await self.labels.text(question, timer, client), encoded
        text = asyncio.create_task(self.labels.text(question, timer, client))
        video = asyncio.create_task(self.clips.encoded(clip, timer, client))
        try:
            both = await asyncio.gather(text, video)
            return both[0], both[1]
        finally:
            await _cancel(text, video)

    async def _explained(
        self,
        clip: UploadedClip,
        scored: ScoredClip,
        question: Question,
        best: Prediction,
        timer: StageTimer,
        client: str,
    ) -> Explanation:
        """Say what each frame adds to the best label: T + 1 more runs of the video encoder."""
        info = scored.clip.clip.info
        decoded = await self.clips.frames(clip, info.frame_rule, timer, client)

        async def encode(frames: NDArray[np.uint8]) -> Features:
            return await self.clips.encode(frames, timer, client)

        async def score(features: Features, of: slice) -> NDArray[np.float32]:
            clip = EncodedClip(features, info)
            return await self.labels.score(clip, scored.candidates[of], timer, client)

        async def rank(logits: NDArray[np.float32]) -> Prediction:
            first = replace(question, top_k=1, open_set=False, coverage=None)
            ranking = await self._ranked(replace(scored, logits=logits), first, client)
            return ranking.predictions[0]

        return await explain_frames(decoded.frames, info.frame_times_s, best, encode, score, rank)

    async def _ranked(self, scored: ScoredClip, question: Question, client: str) -> Ranking:
        """Rank predictions; in a thread where that would hold up others."""
        compared = contrast_of(question, self.manifest) is not None

        def ranked() -> Ranking:
            rivals = nearest_rivals(scored.candidates) if compared else None
            return rank(
                scored.labels, scored.logits, question, self.manifest, scored.negatives, rivals
            )

        if not compared and len(scored.labels) < RANKED_IN_THREAD_FROM:
            return ranked()
        return await self.beside.run(ranked, client)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it has let go of what it uses."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
