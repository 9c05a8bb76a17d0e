"""Vectors of clips and texts, as arrays."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.inputs import VideoFacts
from service.contract.embeddings import Embeddings
from xclip_serve.errors import ClassifyError
from xclip_serve.question import Options, Question, question

TEXTS_AT_ONCE = 2048  # as the API takes them
LITTLE_ENDIAN = np.dtype("<f4")

V = TypeVar("V")


@dataclass(frozen=True)
class ClipVector:
    """The vector of a clip.

    Attributes:
        vector: Float32 (D,).
        video_id: Names the clip in further questions, for as long as it is held.
        video: Facts of the clip.
        bundle: What it was made by; vectors of another are not comparable.
    """

    vector: NDArray[np.float32]
    video_id: str
    video: VideoFacts
    bundle: str


def clip_question(options: Options, *, normalize: bool) -> Question:
    """Return the JSON of POST /v1/embeddings for a clip, without its bytes. TypeError as there."""
    return {**question((), options), **_form(normalize)}


def text_questions(
    texts: Sequence[str], template: str | Sequence[str] | None, *, normalize: bool
) -> Iterator[Question]:
    """Yield the same for texts, as many as may be asked about at a time."""
    if isinstance(texts, str):
        raise TypeError("texts is one text; give a list of texts")
    filled = question((), {"template": template})
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        part = list(texts[first : first + TEXTS_AT_ONCE])
        yield {"input": part, **filled, **_form(normalize)}


def clip_vector(answer: Embeddings) -> ClipVector:
    """Return the vector of an answer about a clip."""
    assert answer.video_id is not None
    assert answer.video is not None
    return ClipVector(arrays([answer])[0], answer.video_id, answer.video, answer.bundle)


def vectors_of(
    answers: Iterable[tuple[V, Embeddings | ClassifyError]],
) -> Iterator[tuple[V, ClipVector | ClassifyError]]:
    """Yield each clip with its vector, or with the problem that it got instead."""
    for video, answer in answers:
        yield video, answer if isinstance(answer, ClassifyError) else clip_vector(answer)


def arrays(answers: Sequence[Embeddings]) -> NDArray[np.float32]:
    """Return the vectors of answers in base64, float32 (K,D)."""
    rows = [
        np.frombuffer(b64decode(str(each.embedding)), LITTLE_ENDIAN)
        for answer in answers
        for each in answer.data
    ]
    return np.array(rows, np.float32)


def _form(normalize: bool) -> Question:
    return {"normalize": normalize, "encoding_format": "base64"}
