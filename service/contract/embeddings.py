"""What is asked of POST /embeddings, and answered: the form of OpenAI's API, and more beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.inputs import VideoFacts

_OF_CLIPS = Field(exclude_if=lambda value: value is None)


@dataclass(frozen=True)
class EmbeddingQuestion:
    """How vectors are wanted, and of which texts.

    Attributes:
        texts: Cleaned as labels are; none where a clip is asked about.
        templates: Prompts with one `{}` each, averaged; empty for the bundle's own.
        normalize: Whether vectors are scaled to length 1.
        base64: Whether a vector is written as its bytes, float32 little-endian, in base64.
        dimensions: The length that the client counts on; None for any.
    """

    texts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    normalize: bool = True
    base64: bool = False
    dimensions: int | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Embedding(_Answer):
    """One vector: numbers, or with `encoding_format=base64` their bytes, float32 little-endian."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class TokenUse(_Answer):
    """How many tokens the texts were; a clip has none."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(_Answer):
    """The answer of POST /embeddings. Vectors of one `bundle` can be compared with each other.

    `video_id`, `video` and `warnings` are of a clip.
    """

    object: Literal["list"] = "list"
    data: tuple[Embedding, ...]
    model: str
    bundle: str
    usage: TokenUse
    video_id: Annotated[str | None, _OF_CLIPS] = None
    video: Annotated[VideoFacts | None, _OF_CLIPS] = None
    warnings: Annotated[tuple[str, ...] | None, _OF_CLIPS] = None
