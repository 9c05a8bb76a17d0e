"""What the API answers, as types; the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelName(_Answer):
    """What answered."""

    name: str
    bundle: str
    precision: str
    runtime: str


class Prediction(_Answer):
    """One label: `score` is its share among the request's labels, `similarity` the cosine."""

    label: str
    score: float
    logit: float
    similarity: float


class VideoFacts(_Answer):
    """The clip as it was read, sizes as displayed, and when the frames used were shown."""

    duration_s: float | None
    fps: float | None
    width: int
    height: int
    codec: str
    frame_times_s: tuple[float, ...]


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


class Classification(_Answer):
    """The answer of POST /classify, best label first."""

    model: ModelName
    video_id: str
    predictions: tuple[Prediction, ...]
    video: VideoFacts
    timing_ms: Timing
    cache: CacheUse
    warnings: tuple[str, ...] = ()


class Problem(_Answer):
    """An error (RFC 9457): `code` is stable, `detail` says what to change."""

    type: str
    title: str
    status: int
    code: str
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
