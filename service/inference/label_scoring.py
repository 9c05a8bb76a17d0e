"""The labels of a question: their vectors, which of them are scored, and their logits.

K labels, V views of a clip, D vector length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, LabelSet
from export.runtime import Runtime
from export.runtime.contract import PAIRS_PER_RUN
from model.inputs import label_prompts
from service.cache.clips import EncodedClip
from service.cache.labels import LabelCache, LabelStore, LabelVectors
from service.cache.spaces import Spaces
from service.contract.errors import ApiError
from service.contract.request import Question
from service.inference.inference_thread import InferenceThread
from service.inference.negatives import NegativeLabels, package_negatives, with_stored
from service.inference.score_batching import ScoreBatcher
from service.inference.shortlist import VIDEO, nearest
from service.inference.stage_timer import StageTimer
from service.inference.text_batching import TextEncoder
from service.settings import Settings
from service.sharing.fair_threads import FairThreads

ALONE = 1  # the size of a batch that nothing else fits into
PROMPTED_IN_THREAD_FROM = 1000  # prompts; about a millisecond


class LabelScorer:
    """Knows the labels of one bundle, and scores them against encoded clips.

    Args:
        bundle: Its label lists are read now, while they are what the manifest says: the folder
            may be replaced while we serve.
        runtime: Runs its graphs, on `thread`.
        settings: The limits that hold here.
        thread: The network's.
        beside: For what would hold up the event loop.
        store: Vectors that servers share.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        settings: Settings,
        thread: InferenceThread,
        beside: FairThreads,
        store: LabelStore | None,
    ) -> None:
        manifest = bundle.manifest
        self._templates, self._beside = manifest.templates, beside
        self._texts = encoder = TextEncoder(
            runtime,
            bundle.tokenizer(),
            manifest.inputs,
            thread,
            settings.request_timeout_s,
            beside,
        )
        self._max_prompts = settings.max_prompts or settings.max_labels
        self._max_prompt_chars = settings.max_text_bytes
        together = PAIRS_PER_RUN if runtime.prefers_batches else ALONE
        self._scores = ScoreBatcher(thread, runtime, together)
        self.known = LabelCache(
            encoder.encode,
            settings.label_cache_bytes,
            store,
            encoder.taken_on,
            Spaces(settings.keeps_clients_apart),
        )
        self._sets = {name: bundle.label_set(name) for name in manifest.labels}
        self._negatives: NegativeLabels | None = None  # once they are needed

    async def measure(self) -> None:
        """Learn what texts cost here, before anybody asks."""
        await self._texts.measure()

    def label_set(self, name: str) -> LabelSet:
        """Return a stored list; ApiError `unknown_label_set` where there is none."""
        if name not in self._sets:
            known = ", ".join(sorted(self._sets)) or "none in this bundle"
            raise ApiError(
                "unknown_label_set", f"there is no label_set {name[:60]!r}; there are: {known}"
            )
        return self._sets[name]

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
        templates = templates or self._templates
        each = max(1, len(templates))
        if len(labels) * each < PROMPTED_IN_THREAD_FROM:
            prompts = label_prompts(labels, templates)
        else:
            prompts = await self._beside.run(partial(label_prompts, labels, templates), client)
        return await self.known.get(prompts, each, client)

    def check_prompts(self, labels: Sequence[str], templates: Sequence[str]) -> None:
        """Refuse more prompts than a request may make, before any of them is made."""
        each = max(1, len(templates))
        count = len(labels) * each
        characters = each * sum(map(len, labels)) + len(labels) * sum(map(len, templates))
        if count > self._max_prompts or characters > self._max_prompt_chars:
            raise ApiError(
                "too_many_labels",
                f"{len(labels)} labels in {each} templates make {count} prompts of "
                f"{characters} characters together, the limits are {self._max_prompts} and "
                f"{self._max_prompt_chars}; send fewer or shorter ones",
            )

    async def text(
        self, question: Question, timer: StageTimer, client: str
    ) -> tuple[Sequence[str], LabelVectors]:
        """Return the labels and their vectors, one each, with how many prompts were known."""
        labels: Sequence[str] = question.labels
        if question.label_set is not None:
            stored = self.label_set(question.label_set)
            if not question.templates:
                return stored.labels, LabelVectors(stored.vectors, len(stored.labels), 0)
            labels = stored.labels
        self.check_prompts(labels, question.templates or self._templates)
        with timer.stage("text"):
            return labels, await self.embed(labels, question.templates, client)

    async def shortlist(
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

    async def negatives(
        self,
        labels: Sequence[str],
        vectors: NDArray[np.float32],
        timer: StageTimer,
        client: str,
    ) -> NDArray[np.float32]:
        """Return the vectors of labels that the question does not mean; computed once, for all.

        They are prompted once, however many templates the network has: some have dozens.
        """
        with timer.stage("text"):
            if self._negatives is None:
                own = await self.embed(package_negatives(), self._templates[:1])
                self._negatives = with_stored(own.vectors, self._sets)
            far = partial(self._negatives.far_from, labels, vectors)
            return await self._beside.run(far, client)

    async def score(
        self,
        clip: EncodedClip,
        vectors: NDArray[np.float32],
        timer: StageTimer,
        client: str,
        *,
        first: bool = False,
    ) -> NDArray[np.float32]:
        """Score every view and label, (V,K), in one turn of the thread for each PAIRS_PER_RUN.

        In between others have theirs: a hundred thousand labels do not hold up a clip. With `first`
        a list that one turn suffices for does not wait for them.
        """
        views = clip.views
        step = max(1, PAIRS_PER_RUN // views)  # as the runtime cuts: the result is the same
        first = first and len(vectors) <= step
        parts: list[NDArray[np.float32]] = []
        for begin in range(0, len(vectors), step):
            part = vectors[begin : begin + step]
            scored = await self._scores.score(clip.features, views, part, client, first=first)
            timer.add("queue", scored.queued_s)
            timer.add("score", scored.ran_s)
            parts.append(scored.answer)
        return np.concatenate(parts, axis=1)
