"""What a client writes to ask about a clip, in types, before it is held against any limit."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
    """

    labels: list[str] | None = None
    label_set: str | None = None
    templates: list[str] | None = None
    top_k: int | None = None
    shortlist: int | None = None
