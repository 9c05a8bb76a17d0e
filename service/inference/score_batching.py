"""Clips with label lists of their own, scored together. V views, K labels, D vector length.

Labels never attend to each other, so lists of different length are filled up to the longest: what
stands behind a list's own labels changes nothing, and its logits are thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.runtime import Features, Runtime, join_features
from service.inference.batching import Batcher, Timed
from service.inference.inference_thread import InferenceThread


@dataclass(frozen=True)
class Pairs:
    """Features (V,…) of one clip's views, and the label vectors (K,D) to score them against."""

    features: Features
    views: int
    labels: NDArray[np.float32]


class ScoreBatcher:
    """Scores lists, together as long as views × longest list is at most `max_pairs`.

    A long list comes in parts, each after the answer to the one before: nobody waits for more of it
    than one part, and short lists that wait meanwhile go together.
    """

    def __init__(self, thread: InferenceThread, runtime: Runtime, max_pairs: int) -> None:
        self._runtime = runtime
        self._batches = Batcher(thread, self._run, _pairs, max_pairs)

    async def score(
        self,
        features: Features,
        views: int,
        labels: NDArray[np.float32],
        client: str = "",
        *,
        first: bool = False,
    ) -> Timed[NDArray[np.float32]]:
        """Score label vectors (K,D) against the V views of a clip: logits (V,K)."""
        return await self._batches.submit(Pairs(features, views, labels), client, first=first)

    def _run(self, jobs: list[Pairs]) -> list[NDArray[np.float32]]:
        if len(jobs) == 1:
            job = jobs[0]
            text = np.broadcast_to(job.labels, (job.views, *job.labels.shape))
            return [self._runtime.score(job.features, text)]
        logits = self._runtime.score(join_features([job.features for job in jobs]), _padded(jobs))
        ends = np.cumsum([job.views for job in jobs])
        return [
            logits[end - job.views : end, : len(job.labels)].copy()
            for job, end in zip(jobs, ends, strict=True)
        ]


def _padded(jobs: list[Pairs]) -> NDArray[np.float32]:
    """Stack the lists of every view; zeros fill them up to the longest."""
    rows, longest = sum(job.views for job in jobs), max(len(job.labels) for job in jobs)
    text = np.zeros((rows, longest, jobs[0].labels.shape[1]), np.float32)
    first = 0
    for job in jobs:
        text[first : first + job.views, : len(job.labels)] = job.labels
        first += job.views
    return text


def _pairs(jobs: list[Pairs]) -> int:
    return sum(job.views for job in jobs) * max(len(job.labels) for job in jobs)
