"""A video in windows: decoded once, encoded batch by batch, each window ranked as a clip by itself.

K labels, n windows of a batch; a batch is encoded and scored as a clip of n views would be.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from model.inputs import VideoInfo
from model.inputs.windows import Cut
from service.cache.clips import EncodedClip
from service.contract.answer import ModelName
from service.contract.errors import ApiError
from service.contract.request import Sampling
from service.contract.timeline import (
    MOST_TOP_K,
    EndLine,
    FactsLine,
    TimelineLine,
    TimelineQuestion,
    TimelineSegment,
    TimelineVideo,
    WindowLine,
)
from service.decode import DecodePool, DecodeUnavailable
from service.decode.windows import DecodedWindows, VideoBegun
from service.inference.answerable import answer_doubts, check_answerable
from service.inference.batching import VideoBatcher
from service.inference.doubts import label_doubts
from service.inference.label_scoring import LabelScorer
from service.inference.ranking import Ranking, rank
from service.inference.rivals import Rivals, contrast_of, nearest_rivals
from service.inference.segments import Hysteresis, Scores, SegmentMerger, in_order, window_scores
from service.inference.stage_timer import StageTimer
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

RANKED_IN_THREAD_FROM = 1000  # labels times windows; about a millisecond
MOST_PREDICTIONS = 10_000  # of all windows together: what an answer may hold

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class TimelineMaker:
    """Makes timelines of one bundle.

    Attributes:
        manifest: Of the bundle.
        name: What answers.
        pool: Decodes.
        batcher: Encodes.
        batch: How many windows to encode together.
        most: How many windows a video may have.
        labels: Knows labels and scores them.
        beside: For what would hold up the event loop.
        telemetry: Told of the work.
    """

    manifest: BundleManifest
    name: ModelName
    pool: DecodePool
    batcher: VideoBatcher
    batch: int
    most: int
    labels: LabelScorer
    beside: FairThreads
    telemetry: EngineTelemetry

    async def lines(
        self, source: int, sampling: Sampling, asked: TimelineQuestion, client: str = ""
    ) -> AsyncGenerator[TimelineLine, None]:
        """Yield what is known of a video, each of its windows once it is ranked, and the end.

        Close the iterator to end the work, whatever it is at.

        Args:
            source: Descriptor of the open video.
            sampling: Its part that is looked at, and the frame rule; `auto` is exact here.
            asked: The windows, and what is asked of each.
            client: Who asks; those who wait for the same stage are served in turn.

        Raises:
            VideoError: The video cannot be used, or not to its end.
            ApiError: The question does not fit this bundle, or the server cannot answer it now.
        """
        check_answerable(asked.question, self.manifest)
        timer = StageTimer(lambda stage, seconds: None)  # a thousand windows are one request
        ranker = await self._ranker(asked, timer, client)
        merger = SegmentMerger(ranker.labels, Hysteresis(exclusive=ranker.exclusive))
        segments: list[TimelineSegment] = []
        each = asked.question.top_k or len(ranker.labels)
        most = min(self.most, max(1, MOST_PREDICTIONS // each))
        cut = Cut(asked.window_s, asked.stride_s, most)
        parts = self.pool.windows(
            source,
            cut,
            batch=self.batch,
            start=sampling.start,
            end=sampling.end,
            frame_rule="keyframes" if sampling.frame_rule == "keyframes" else "exact",
            client=client,
        )
        async with aclosing(parts):
            async for part in _timed(parts, timer):
                if isinstance(part, VideoBegun):
                    info = part.info
                    yield self._facts(part, asked, ranker)
                    continue
                for window, scores in await self._ranked(part, info, ranker, timer, client):
                    segments += merger.add(window.start_s, window.end_s, scores)
                    yield window
        for stage, seconds in timer.seconds.items():
            self.telemetry.stage_ended(stage, seconds)
        self.telemetry.answered(timer.seconds, "miss", ranker.hits, ranker.misses)
        segments += merger.finish()
        yield EndLine(segments=in_order(segments), timing_ms=timer.timing())

    async def _ranker(
        self, asked: TimelineQuestion, timer: StageTimer, client: str
    ) -> WindowRanker:
        names, vectors = await self.labels.text(asked.question, timer, client)
        negatives = None
        if asked.question.open_set:
            negatives = await self.labels.negatives(names, vectors.vectors, timer, client)
        rivals = None
        if contrast_of(asked.question, self.manifest) is not None:
            rivals = await self.beside.run(partial(nearest_rivals, vectors.vectors), client)
        return WindowRanker(
            names,
            vectors.vectors,
            negatives,
            rivals,
            asked,
            self.manifest,
            vectors.hits,
            vectors.misses,
        )

    async def _ranked(
        self,
        part: DecodedWindows,
        info: VideoInfo,
        ranker: WindowRanker,
        timer: StageTimer,
        client: str,
    ) -> Sequence[tuple[WindowLine, Scores]]:
        encoded = await self.batcher.encode(part.frames, client)
        timer.add("queue", encoded.queued_s)
        timer.add("encode", encoded.ran_s)
        clip = EncodedClip(encoded.answer, info)
        logits = await self.labels.score(clip, ranker.vectors, timer, client)
        negatives = None
        if ranker.negatives is not None:
            negatives = await self.labels.score(clip, ranker.negatives, timer, client)
        self.telemetry.windows_ranked(len(part.times))
        ranked = partial(ranker.rank, part, logits, negatives)
        rivals = 0 if ranker.rivals is None else len(logits) * ranker.rivals.size
        if logits.size + rivals < RANKED_IN_THREAD_FROM:
            return ranked()
        return await self.beside.run(ranked, client)

    def _facts(self, begun: VideoBegun, asked: TimelineQuestion, ranker: WindowRanker) -> FactsLine:
        info = begun.info
        return FactsLine(
            model=self.name,
            video=TimelineVideo(**info.model_dump(include={*TimelineVideo.model_fields})),
            window_s=asked.window_s,
            stride_s=asked.stride_s,
            windows=begun.windows,
            warnings=(
                *self.manifest.warnings,
                *answer_doubts(asked.question, self.manifest),
                *label_doubts(ranker.labels),
                *info.warnings,
            ),
        )


@dataclass(frozen=True)
class WindowRanker:
    """The labels of a timeline, K, and how the logits of a window become its answer.

    Attributes:
        labels: Their names.
        vectors: Float32 (K,D).
        negatives: Vectors of labels that are not meant; with `open_set`.
        rivals: Those of each label, where scores are compared with them.
        asked: What is asked.
        manifest: Of the bundle.
        hits: How many prompts were known.
        misses: How many were not.
    """

    labels: Sequence[str]
    vectors: Logits
    negatives: Logits | None
    rivals: Rivals | None
    asked: TimelineQuestion
    manifest: BundleManifest
    hits: int
    misses: int

    @property
    def exclusive(self) -> bool:
        """Whether one label at most is true at a time."""
        return self.asked.question.scores == "softmax"

    def rank(
        self, part: DecodedWindows, logits: Logits, negatives: Logits | None
    ) -> list[tuple[WindowLine, Scores]]:
        """Return the windows, best labels first, from logits (n,K) and (n,N).

        With each comes what segments are made of, of all labels that may be on, however few of
        them are asked for: of those that exclude each other two reach what keeps one on at most.
        """
        asked = self.asked.question
        top_k = asked.top_k and max(asked.top_k, 2 if self.exclusive else MOST_TOP_K)
        question = replace(asked, top_k=top_k)
        lines = []
        for row, times in enumerate(part.times):
            own = slice(row, row + 1)
            others = None if negatives is None else negatives[own]
            ranking: Ranking = rank(
                self.labels, logits[own], question, self.manifest, others, self.rivals
            )
            line = WindowLine(
                start_s=times.start_s,
                end_s=times.end_s,
                frame_times_s=tuple(round(time_s, 3) for time_s in times.times_s),
                predictions=ranking.predictions[: asked.top_k],
                none_of_these=ranking.none_of_these,
            )
            scores = window_scores(
                len(self.labels),
                ranking.predictions,
                ranking.none_of_these,
                exclusive=self.exclusive,
            )
            lines.append((line, scores))
        return lines


async def _timed(
    parts: AsyncGenerator[VideoBegun | DecodedWindows, None], timer: StageTimer
) -> AsyncGenerator[VideoBegun | DecodedWindows, None]:
    """Count the time that is waited for frames. ApiError `not_ready` where no worker can be had."""
    while True:
        began = time.perf_counter()
        try:
            part = await anext(parts)
        except StopAsyncIteration:
            return
        except DecodeUnavailable:
            raise ApiError(
                "not_ready", "no decode worker can be had; ask again", retry_after_s=5
            ) from None
        timer.add("decode", time.perf_counter() - began)
        yield part
