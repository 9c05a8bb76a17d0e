"""What the API answers, as types; the OpenAPI document is made of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from model.inputs import VideoFacts
from service.contract.errors import ErrorCode

# What was not asked for is not in the answer.
_WHERE_ASKED = Field(exclude_if=lambda value: value is None)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelName(_Answer):
    """What answered."""

    name: str
    bundle: str
    precision: str
    runtime: str


@dataclass(slots=True)  # a model would take ten times longer to make, and there may be 100,000
class Prediction:
    """One label: `score` is its share among the labels that were scored, `similarity` the cosine of
    the clip with what the clip makes of the label, `index` where the label stands in the request
    (or in its label set), from 0. By `scores=sigmoid` the score is how likely this label is for
    itself. With `open_set` there is `probability` as well: over the labels that were scored it is
    1 in sum with `none_of_these`.
    """

    label: str
    score: float
    logit: float
    similarity: float
    index: int
    probability: Annotated[float | None, _WHERE_ASKED] = None


class Timing(_Answer):
    """Milliseconds in each stage; a cached stage takes none."""

    decode: float = 0.0
    queue: float = 0.0
    encode: float = 0.0
    text: float = 0.0
    score: float = 0.0
    total: float = 0.0


class CacheUse(_Answer):
    """What was known before."""

    video: Literal["hit", "miss"]
    text_hits: int
    text_misses: int


class Shortlist(_Answer):
    """How many labels were compared by plain cosine, and how many of them scored exactly."""

    compared: int
    scored: int


class FrameChange(_Answer):
    """How much lower the logit of the best label is without this frame; negative: higher."""

    time_s: float
    change: float


class ReversedAnswer(_Answer):
    """What is answered first to the same frames in the opposite order, with its score and logit.

    `change` is how much lower the logit of the clip's own best label is then.
    """

    label: str
    score: float
    logit: float
    change: float


class Explanation(_Answer):
    """What each frame adds to the best label, and whether the order of the frames does.

    A frame is left out by showing the one before it twice (instead of the first, the second).
    """

    label: str
    logit: float
    frames: tuple[FrameChange, ...]
    reversed: ReversedAnswer


class Classification(_Answer):
    """The answer of POST /classify, best label first. With a `shortlist`, `score` is the softmax
    over the labels that were scored, and the predictions are these. Where they were asked for:
    `none_of_these` is how likely none of the labels is true, `label_set` are the labels that hold
    the true one with the `coverage` given, `explanation` tells what the frames add.
    """

    model: ModelName
    video_id: str
    predictions: tuple[Prediction, ...]
    video: VideoFacts
    timing_ms: Timing
    cache: CacheUse
    shortlist: Shortlist | None = None
    none_of_these: Annotated[float | None, _WHERE_ASKED] = None
    label_set: Annotated[tuple[str, ...] | None, _WHERE_ASKED] = None
    explanation: Annotated[Explanation | None, _WHERE_ASKED] = None
    warnings: tuple[str, ...] = ()


class VideoCacheUse(_Answer):
    """Whether the clip was known before."""

    video: Literal["hit", "miss"]


class StoredVideo(_Answer):
    """The answer of POST /videos: the clip can be asked about by its `video_id`."""

    model: ModelName
    video_id: str
    video: VideoFacts
    timing_ms: Timing
    cache: VideoCacheUse
    warnings: tuple[str, ...] = ()


class Problem(_Answer):
    """An error (RFC 9457): `code` is stable, `detail` says what to change."""

    type: str
    title: str
    status: int
    # A text to whoever reads it, as a newer server may have more codes; an enum in the document.
    code: Annotated[str, WithJsonSchema({"type": "string", "enum": list(get_args(ErrorCode))})]
    detail: str
    request_id: str


class LabelSetFacts(_Answer):
    """One stored label list."""

    name: str
    count: int


class LabelSetLabels(_Answer):
    """The labels of a stored list, in class order."""

    name: str
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
