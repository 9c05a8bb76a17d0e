"""Parts of the OpenAPI document that types alone do not give: the form and the errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, get_args

from model.inputs.sampling import FrameChoice
from service.api.problems import PROBLEM_JSON, STATUS
from service.api.request import VIDEO_ID
from service.contract.answer import Problem
from service.contract.errors import ErrorCode
from service.settings import Settings

TEXT = {"type": "string"}
EXAMPLE_LABELS = ["a red circle moving left", "a red circle moving right"]


def classify_body(settings: Settings) -> dict[str, Any]:
    """Describe the form of POST /classify, with the bounds of these settings."""
    phrase = {**TEXT, "minLength": 1}
    count = {"type": "integer", "minimum": 1, "maximum": settings.max_labels}
    fields: dict[str, dict[str, Any]] = {
        "video": {
            "type": "string",
            "format": "binary",
            "description": "the clip: mp4, mov, webm, mkv, avi, …",
        },
        "video_id": {
            **TEXT,
            "pattern": f"^{VIDEO_ID.pattern}$",
            "description": "instead of video: the id of an earlier answer",
        },
        "video_url": {
            **TEXT,
            "description": "instead of video, where the operator allows it: an https address",
        },
        "labels": {
            "type": "array",
            "items": phrase,
            "minItems": 1,
            "maxItems": settings.max_labels,
            "description": "labels, repeated; or one field with a JSON array",
        },
        "label_set": {**TEXT, "description": "instead of labels: the name of a stored list"},
        "template": {
            "type": "array",
            "items": {**phrase, "maxLength": settings.max_label_chars},
            "maxItems": settings.max_templates,
            "description": "prompt with one {} for the label; several are averaged",
        },
        "top_k": {**count, "description": "default: all"},
        "shortlist": {
            **count,
            "description": "score only so many labels, those whose vectors have the largest cosine "
            "with the clip's: quicker for thousands of labels. score is then the softmax over "
            "these, and the others are not in the answer; default: score all",
        },
        "start": {"type": "number", "minimum": 0, "description": "seconds"},
        "end": {"type": "number", "minimum": 0, "description": "seconds"},
        "views": {
            "type": "integer",
            "minimum": 1,
            "maximum": settings.max_views,
            "description": "temporal views to average, default 1",
        },
        "frame_rule": {
            **TEXT,
            "enum": list(get_args(FrameChoice)),
            "description": "which frame of each segment of the clip is taken: exact, the middle "
            "(the published rule); keyframes, the one that is cheapest to decode; auto, exact "
            f"unless that takes too long. Default: {settings.frame_rule}",
        },
    }
    for name, schema in fields.items():
        # Swagger UI fills this in; without it, it invents values. Empty fields count as not given.
        nothing: object = [] if schema["type"] == "array" else ""
        schema["example"] = EXAMPLE_LABELS if name == "labels" else nothing
    content = {
        "multipart/form-data": _form(fields),
        "application/x-www-form-urlencoded": _form(
            {name: schema for name, schema in fields.items() if name != "video"}
        ),
    }
    return {"requestBody": {"required": True, "content": content}}


def _form(fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": {"type": "object", "additionalProperties": False, "properties": fields},
        "encoding": {"labels": {"explode": True}, "template": {"explode": True}},
        "example": {"labels": EXAMPLE_LABELS},
    }


def problem_responses(codes: Iterable[ErrorCode]) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of a route, codes listed by status."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[STATUS[code]].append(code)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "model": Problem,
            "description": "Problem: " + ", ".join(names),
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
        for status, names in sorted(by_status.items())
    }
