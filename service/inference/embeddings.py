"""Vectors of clips and texts, to be compared by cosine. V views, K texts, D vector length.

The cosine of a clip's vector with a text's is what `shortlist` orders labels by. It is not the
`similarity` of an answer: there the label has first attended to the clip.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from model.inputs import label_prompts
from model.inputs.text.lengths import token_lengths
from service.contract.answer import ModelName
from service.contract.embeddings import Embedding, EmbeddingQuestion, Embeddings, TokenUse
from service.contract.request import KnownClip, UploadedClip
from service.inference.answerable import check_embeddable
from service.inference.clip_pipeline import ClipPipeline
from service.inference.label_scoring import LabelScorer
from service.inference.shortlist import VIDEO
from service.inference.stage_timer import StageTimer
from service.sharing.fair_threads import FairThreads
from service.telemetry.engine_telemetry import EngineTelemetry

Vectors = NDArray[np.float32]
LITTLE_ENDIAN = np.dtype("<f4")


@dataclass(frozen=True)
class EmbeddingMaker:
    """Makes the vectors of clips and texts with one bundle.

    Attributes:
        bundle: Its templates and tokenizer are those of the texts.
        name: What answers.
        clips: Encodes clips, or knows them.
        labels: Embeds texts, or knows them.
        beside: For what would hold up the event loop.
        telemetry: Told of the work.
    """

    bundle: Bundle
    name: ModelName
    clips: ClipPipeline
    labels: LabelScorer
    beside: FairThreads
    telemetry: EngineTelemetry

    async def make(
        self, clip: UploadedClip | KnownClip, question: EmbeddingQuestion, client: str = ""
    ) -> Embeddings:
        """Return the answer; see `Engine.embeddings`."""
        check_embeddable(question, self.bundle.manifest)
        if question.texts:
            return await self._of_texts(question, client)
        timer = StageTimer(self.telemetry.stage_ended)
        encoded = await self.clips.encoded(clip, timer, client)
        self.telemetry.answered(timer.seconds, encoded.cache, 0, 0)
        vector = clip_vector(encoded.clip.features[VIDEO], normalize=question.normalize)
        return embeddings_of(self.name, vector[None], question, 0).model_copy(
            update={
                "video_id": encoded.video_id,
                "video": encoded.clip.info.facts(),
                "warnings": (*self.bundle.manifest.warnings, *encoded.clip.info.warnings),
            }
        )

    async def _of_texts(self, question: EmbeddingQuestion, client: str) -> Embeddings:
        templates = question.templates or self.bundle.manifest.templates
        self.labels.check_prompts(question.texts, templates)
        vectors = (await self.labels.embed(question.texts, templates, client)).vectors
        if question.normalize:
            vectors = unit(vectors)

        def answer() -> Embeddings:
            tokens = self._tokens(question.texts, templates)
            return embeddings_of(self.name, vectors, question, tokens)

        return await self.beside.run(answer, client)  # it may be megabytes

    def _tokens(self, texts: Sequence[str], templates: Sequence[str]) -> int:
        spec = self.bundle.manifest.inputs
        prompts = label_prompts(texts, templates)
        ids = self.bundle.tokenizer().encode(prompts, spec.context_length, spec.pad_id)
        return int(token_lengths(ids, spec.tokenizer.pad).sum())


def embeddings_of(
    name: ModelName, vectors: Vectors, question: EmbeddingQuestion, tokens: int
) -> Embeddings:
    """Return vectors (K,D) as they are answered, of texts with so many tokens together."""
    data = write_vectors(vectors, as_base64=question.base64)
    return Embeddings(
        data=tuple(Embedding(index=i, embedding=each) for i, each in enumerate(data)),
        model=name.name,
        bundle=name.bundle,
        usage=TokenUse(prompt_tokens=tokens, total_tokens=tokens),
    )


def unit(vectors: Vectors) -> Vectors:
    """Scale rows (…,D) to length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def write_vectors(vectors: Vectors, *, as_base64: bool) -> list[list[float]] | list[str]:
    """Return each vector (K,D) as numbers, or as its bytes in base64."""
    if not as_base64:
        return [vector.tolist() for vector in vectors]  # others may go between
    return [b64encode(vector.astype(LITTLE_ENDIAN).tobytes()).decode() for vector in vectors]


def clip_vector(views: Vectors, *, normalize: bool) -> Vectors:
    """Return the one vector (D,) of a clip's views (V,D).

    Args:
        views: What the video encoder gave.
        normalize: The mean of the views' unit vectors, scaled to length 1, whose order of cosines
            is that of the mean cosine; else the mean of the views as they are.
    """
    if normalize:
        return unit(unit(views).mean(axis=0, dtype=np.float32))
    return np.asarray(views.mean(axis=0, dtype=np.float32))
