"""What is asked about a clip, as schemas: a form, or JSON, with the bounds of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from export.bundle.calibration import COVERAGES
from model.inputs.sampling import FrameChoice
from service.api.form_fields import form_names
from service.api.request import VIDEO_ID
from service.contract.body import ClipBody
from service.contract.request import ExplainKind, ScoreKind
from service.settings import Settings

TEXT = {"type": "string"}
EXAMPLE_LABELS = ["a red circle moving left", "a red circle moving right"]
EXAMPLE_ID = "5f0c2b7a91d34e6f8a2b4c6d8e0f1a2b"
EXAMPLE_SOURCES = {
    "data": "AAAAIGZ0eXBpc29tAAACAGlzb20=",
    "id": EXAMPLE_ID,
    "url": "https://cdn.example.com/clip.mp4",
}
# What a field of a form is called within `video` of JSON.
SOURCES = {"video": "data", "video_id": "id", "video_url": "url"}


def body_schema(
    settings: Settings, kind: type[ClipBody], *, known_clips: bool = True
) -> dict[str, Any]:
    """Describe what a route takes.

    Args:
        settings: Whose bounds hold.
        kind: The fields that it has.
        known_clips: Whether the id of an earlier answer is enough.
    """
    clips = ["video", "video_url", *(["video_id"] if known_clips else [])]
    names = {*form_names(kind), "video"} - ({"video_id"} - {*clips})
    fields = {name: schema for name, schema in form_fields(settings).items() if name in names}
    rules = [one_of(["labels", "label_set"])] if "labels" in names else []
    form = {name: {**schema, "example": _nothing(name, schema)} for name, schema in fields.items()}
    texts = {name: schema for name, schema in form.items() if name != "video"}
    content = {
        "multipart/form-data": _form(form, clips, rules),
        "application/json": _json(fields, rules),
        "application/x-www-form-urlencoded": _form(texts, clips[1:], rules),
    }
    return {"requestBody": {"required": True, "content": content}}


def _nothing(name: str, schema: dict[str, Any]) -> object:
    """Return what Swagger UI fills in: else it invents values. Empty fields count as not given."""
    if name == "labels":
        return EXAMPLE_LABELS
    return [] if schema["type"] == "array" else ""


def form_fields(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the schema of each field of a form."""
    phrase = {**TEXT, "minLength": 1}
    count = {"type": "integer", "minimum": 1, "maximum": settings.max_labels}
    return {
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
            "description": "prompt with one {} for the label, repeated, or one field with a JSON "
            "array; several are averaged",
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
        **_kinds_of_answer(),
    }


def _kinds_of_answer() -> dict[str, dict[str, Any]]:
    return {
        "scores": {
            **TEXT,
            "enum": list(get_args(ScoreKind)),
            "description": "softmax, where exactly one label is true (default); sigmoid, each for "
            "itself, where several may be. Networks that were not trained so need a calibration",
        },
        "open_set": {
            "type": "boolean",
            "description": "also answer how likely none of the labels is (none_of_these), and the "
            "probability of each beside that. Default: false",
        },
        "coverage": {
            "type": "number",
            "minimum": COVERAGES[0],
            "maximum": COVERAGES[-1],
            "description": "also answer the labels that hold the true one with this probability "
            "(label_set). Needs a calibration",
        },
        "explain": {
            **TEXT,
            "enum": list(get_args(ExplainKind)),
            "description": "also answer how much each frame adds to the best label, and what the "
            "frames say in the opposite order: one more run of the network for each frame. Needs "
            "the clip itself and one view",
        },
    }


def _json(fields: dict[str, dict[str, Any]], rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe JSON: the fields of the form, but for the clip."""
    fields = dict(fields)
    clips = {name: fields.pop(name) for name in SOURCES if name in fields}
    if "template" in fields:
        fields["templates"] = fields.pop("template")
    sources = {SOURCES[name]: schema for name, schema in clips.items()}
    sources["data"] |= {"format": "byte", "description": "the file in base64"}
    clip = {
        "description": "the clip",
        "oneOf": [
            {
                "title": f"Clip{name.capitalize()}",
                "type": "object",
                "additionalProperties": False,
                "required": [name],
                "properties": {name: schema},
            }
            for name, schema in sources.items()
        ],
    }
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["video"],
        "properties": {"video": clip, **fields},
        **({"allOf": rules} if rules else {}),
    }
    question = {"labels": EXAMPLE_LABELS, "top_k": 1} if "labels" in fields else {}
    examples = {
        name: {"value": {"video": {name: EXAMPLE_SOURCES[name]}, **question}} for name in sources
    }
    return {"schema": schema, "examples": examples}


def _form(
    fields: dict[str, dict[str, Any]], clips: list[str], rules: list[dict[str, Any]]
) -> dict[str, Any]:
    repeated = [name for name, schema in fields.items() if schema["type"] == "array"]
    return {
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "properties": fields,
            "allOf": [one_of(clips), *rules],
        },
        "encoding": {name: {"explode": True} for name in repeated},
        "example": {"labels": EXAMPLE_LABELS} if "labels" in fields else {},
    }


def one_of(names: Iterable[str]) -> dict[str, Any]:
    """Return the schema of an object that has exactly one of these."""
    return {"oneOf": [{"required": [name]} for name in names]}
