"""What POST /timeline asks, checked field by field: a clip, labels, and windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from service.api.form import Form
from service.api.json_body import JsonBody
from service.api.numbers import check_length
from service.api.request import check_clip, check_question, read_given
from service.contract.body import ClassifyBody
from service.contract.errors import ApiError
from service.contract.request import ClipRequest, KnownClip
from service.contract.timeline import (
    DEFAULT_TOP_K,
    DEFAULT_WINDOW_S,
    LEAST_WINDOW_S,
    MOST_OVERLAP,
    MOST_TOP_K,
    TimelineBody,
    TimelineQuestion,
)
from service.contract.upload import Upload
from service.settings import Settings

OF_A_QUESTION = TimelineBody.model_fields.keys() & ClassifyBody.model_fields.keys() - {"video"}


def parse_timeline(
    given: Form | JsonBody, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> ClipRequest[TimelineQuestion]:
    """Read a question about a video in windows; see `parse_classify`."""
    fields = read_given(given, settings, TimelineBody)
    return check_timeline(fields, given.upload, settings, given_up)


def check_timeline(
    fields: TimelineBody,
    upload: Upload | None,
    settings: Settings,
    given_up: Callable[[], bool] = lambda: False,
) -> ClipRequest[TimelineQuestion]:
    """Check what is asked, however it was written; see `parse_classify`."""
    window_s, stride_s = _windows(fields, settings)
    if fields.views is not None:
        raise ApiError(
            "bad_field", "views is of a clip; windows that overlap (stride_s) look more often"
        )
    clip = check_clip(fields, upload, settings)
    if isinstance(clip, KnownClip):
        raise ApiError(
            "bad_field", "a timeline looks at the video, whose bytes are not kept; send it again"
        )
    question = check_question(
        ClassifyBody(**fields.model_dump(include=OF_A_QUESTION)), settings, given_up
    )
    if (question.top_k or 0) > MOST_TOP_K:
        raise ApiError("bad_field", f"top_k must be {MOST_TOP_K} or less for each of many windows")
    question = replace(question, top_k=question.top_k or DEFAULT_TOP_K)
    return ClipRequest(clip, TimelineQuestion(window_s, stride_s, question))


def _windows(fields: TimelineBody, settings: Settings) -> tuple[float, float]:
    """Return seconds of a window and from one to the next; ApiError `bad_field`."""
    longest = settings.max_duration_s
    window_s = check_length("window_s", fields.window_s, LEAST_WINDOW_S, longest)
    if window_s is None:
        window_s = max(min(DEFAULT_WINDOW_S, longest), LEAST_WINDOW_S)
    least = window_s / MOST_OVERLAP
    stride_s = check_length("stride_s", fields.stride_s, 0, longest)
    if stride_s is None:
        return window_s, window_s / 2
    if stride_s < least:
        raise ApiError(
            "bad_field",
            f"stride_s must be {least:g} or more: a moment lies in {MOST_OVERLAP} windows of "
            f"{window_s:g} s at most",
        )
    return window_s, stride_s
