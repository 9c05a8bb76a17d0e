"""What POST /timeline takes and answers, as schemas."""

from __future__ import annotations

from typing import Any

from service.api.line_response import LINES
from service.api.question_schema import body_schema
from service.api.timeline_formats import FORMATS
from service.contract.timeline import (
    DEFAULT_TOP_K,
    DEFAULT_WINDOW_S,
    LEAST_WINDOW_S,
    MOST_TOP_K,
    TimelineBody,
)
from service.settings import Settings


def timeline_body(settings: Settings) -> dict[str, Any]:
    """Describe the body, with the bounds of these settings."""
    body = body_schema(settings, TimelineBody, known_clips=False)
    for content in body["requestBody"]["content"].values():
        fields = content["schema"]["properties"]
        del fields["views"]
        is_form = "example" in fields["top_k"]
        empty = {"example": ""} if is_form else {}
        fields["top_k"] = {
            "type": "integer",
            "minimum": 1,
            "maximum": min(MOST_TOP_K, settings.max_labels),
            "description": f"of each window; default: {DEFAULT_TOP_K}",
            **empty,
        }
        fields["window_s"] = {
            "type": "number",
            "minimum": LEAST_WINDOW_S,
            "maximum": settings.max_duration_s,
            "description": f"seconds of a window; default: {DEFAULT_WINDOW_S:g}",
            **empty,
        }
        fields["stride_s"] = {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": settings.max_duration_s,
            "description": "seconds from the start of a window to that of the next, at least a "
            "sixteenth of a window; default: half a window",
            **empty,
        }
    return body


def timeline_responses() -> dict[str, Any]:
    """Describe the forms of an answer beside JSON."""
    lines = "a line of facts, one for each window as soon as it is done, one of segments in the end"
    text = {"schema": {"type": "string", "description": "the segments"}}
    forms = {form.media_type: text for form in FORMATS.values()}
    return {
        "content": {LINES: {"schema": {"type": "string", "description": lines}}, **forms},
    }
