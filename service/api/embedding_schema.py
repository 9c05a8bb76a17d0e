"""What POST /embeddings takes, as schemas: texts, or a clip as /classify takes it."""

from __future__ import annotations

from typing import Any

from service.api.embedding_request import FORMATS, MAX_INPUTS
from service.api.question_schema import EXAMPLE_LABELS, TEXT, body_schema, one_of
from service.contract.body import ClipBody
from service.settings import Settings

JSON = "application/json"


def embedding_body(settings: Settings) -> dict[str, Any]:
    """Describe the body, with the bounds of these settings."""
    body = body_schema(settings, ClipBody)
    for media, content in body["requestBody"]["content"].items():
        schema = content["schema"]
        fields = _fields(settings, as_json=media == JSON)
        schema["properties"] = {**fields, **schema["properties"]}
        if media == JSON:
            schema["title"] = "EmbeddingBody"
            del schema["required"]
            schema["allOf"] = [one_of(["input", "video"])]
            texts = {"input": EXAMPLE_LABELS, "model": "any", "encoding_format": "float"}
            content["examples"] = {"texts": {"value": texts}, **content["examples"]}
        else:
            clips = [rule["required"][0] for rule in schema["allOf"][0]["oneOf"]]
            schema["allOf"] = [one_of(["input", *clips])]
            content["example"] = {"input": EXAMPLE_LABELS}
            for name, field in fields.items():
                field["example"] = EXAMPLE_LABELS if name == "input" else ""
            fields["template"]["example"] = []
            content["encoding"] = {name: {"explode": True} for name in ("input", "template")}
    return body


def _fields(settings: Settings, *, as_json: bool) -> dict[str, dict[str, Any]]:
    phrase = {**TEXT, "minLength": 1, "maxLength": settings.max_label_chars}
    texts = {"type": "array", "items": phrase, "minItems": 1, "maxItems": MAX_INPUTS}
    return {
        "input": {
            **({"oneOf": [phrase, texts]} if as_json else texts),
            "description": "texts; instead of a clip",
        },
        "templates" if as_json else "template": {
            "type": "array",
            "items": phrase,
            "maxItems": settings.max_templates,
            "description": "prompt with one {} for the text; several are averaged",
        },
        "encoding_format": {
            **TEXT,
            "enum": list(FORMATS),
            "description": "numbers, or float32 little-endian in base64; default: float",
        },
        "normalize": {"type": "boolean", "description": "to length 1; default: true"},
        "dimensions": {
            "type": "integer",
            "minimum": 1,
            "description": "refused unless it is the length that vectors have here",
        },
        "model": {**TEXT, "description": "of OpenAI's API: there is one network"},
        "user": {**TEXT, "description": "of OpenAI's API: read by nobody"},
    }
