"""What a client writes to ask about a clip, in types, before it is held against any limit."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# Of a hundred thousand wrong texts the first is told: to note all of them holds up everybody.
Texts = Annotated[list[str], Field(fail_fast=True)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ClipSource(_Body):
    """Where the clip is: one of these. The bytes of `data` have gone to the disk before."""

    data: str | None = None
    url: str | None = None
    id: str | None = None


class ClipBody(_Body):
    """The fields that say which clip is meant and how it is looked at; None counts as not given.

    Attributes:
        video: Where the clip is; None where a file comes beside the fields.
        start: Seconds; where to begin to look.
        end: Seconds; where to end.
        views: Temporal views to average.
        frame_rule: Which frame of each segment is taken.
    """

    needs_clip: ClassVar[bool] = True

    video: ClipSource | None = None
    start: float | None = None
    end: float | None = None
    views: int | None = None
    frame_rule: str | None = None


class ClassifyBody(ClipBody):
    """The fields of POST /v1/classify.

    Attributes:
        labels: As they were written, one each.
        label_set: Name of a list stored in the bundle, instead of labels.
        templates: Prompts with one `{}` each.
        top_k: How many of the best labels to answer.
        shortlist: How many labels, nearest by plain cosine, to score.
        scores: `softmax` or `sigmoid`.
        open_set: Also say how likely none of the labels is.
        coverage: Also give the labels that hold the true one with this probability.
        explain: `frames`: also say what each frame adds.
    """

    labels: Texts | None = None
    label_set: str | None = None
    templates: Texts | None = None
    top_k: int | None = None
    shortlist: int | None = None
    scores: str | None = None
    open_set: bool | None = None
    coverage: float | None = None
    explain: str | None = None


class EmbeddingBody(ClipBody):
    """The fields of POST /v1/embeddings: of texts, or of a clip.

    Attributes:
        input: A text, or several.
        templates: Prompts with one `{}` each.
        encoding_format: `float` or `base64`.
        normalize: Whether vectors are scaled to length 1.
        dimensions: The length that the client counts on.
        model: Of OpenAI's API; there is one network.
        user: Of OpenAI's API.
    """

    needs_clip: ClassVar[bool] = False

    input: str | Texts | None = None
    templates: Texts | None = None
    encoding_format: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    model: str | None = None
    user: str | None = None
