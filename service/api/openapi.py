"""Parts of the OpenAPI document that types alone do not give: errors, headers, examples."""

from __future__ import annotations

import http
import json
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any

from fastapi import FastAPI

from service.api.addresses import VERSION
from service.api.middleware import REQUEST_ID as REQUEST_ID_FORM
from service.api.problems import PROBLEM_JSON, STATUS
from service.api.question_schema import EXAMPLE_ID, TEXT
from service.contract.answer import Problem
from service.contract.errors import ErrorCode

ANSWER_EXAMPLE: dict[str, Any] = {
    "model": {
        "name": "shapes-demo",
        "bundle": "sha256:0c5ad8e4f7b1",
        "precision": "fp32",
        "runtime": "onnxruntime-cpu",
    },
    "video_id": EXAMPLE_ID,
    "predictions": [
        {
            "label": "a red circle moving left",
            "score": 0.991,
            "logit": 16.79,
            "similarity": 0.637,
            "index": 0,
        },
        {
            "label": "a red circle moving right",
            "score": 0.009,
            "logit": 12.1,
            "similarity": 0.46,
            "index": 1,
        },
    ],
    "video": {
        "duration_s": 2.0,
        "fps": 8.0,
        "width": 64,
        "height": 64,
        "codec": "h264",
        "frames": 16,
        "frame_rule": "exact",
        "frame_times_s": [0.125, 0.375, 0.625, 0.875, 1.125, 1.375, 1.625, 1.875],
        "warnings": [],
    },
    "timing_ms": {
        "decode": 4.1,
        "queue": 0.1,
        "encode": 9.8,
        "text": 2.2,
        "score": 0.9,
        "total": 15.2,
    },
    "cache": {"video": "miss", "text_hits": 0, "text_misses": 2},
    "warnings": [],
}
# Which header an error may have; the id of the request is on every answer.
REQUEST_ID = {
    "X-Request-ID": {
        "description": "what the server's log calls this request: the client's own, if it sent one",
        "schema": TEXT,
    }
}
REQUEST_ID_GIVEN = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "what the log and the answer shall call this request",
    "schema": {**TEXT, "pattern": f"^{REQUEST_ID_FORM.pattern}$"},
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds after which asking again may help; left out where it will not",
        "schema": {"type": "integer", "minimum": 1},
    }
}
CHALLENGE = {"WWW-Authenticate": {"description": "how a key is sent", "schema": TEXT}}
ALLOW = {"Allow": {"description": "the methods that the address takes", "schema": TEXT}}
HEADERS: dict[int, dict[str, Any]] = {
    401: CHALLENGE,
    405: ALLOW,
    429: RETRY_AFTER,
    503: RETRY_AFTER,
    504: RETRY_AFTER,
}


class TAG(StrEnum):
    """What operations are grouped by."""

    CLIPS = "clips"
    NETWORK = "network"
    HEALTH = "health"


TAGS = [
    {"name": TAG.CLIPS, "description": "What a clip shows"},
    {"name": TAG.NETWORK, "description": "The network that is served, and what it knows by name"},
    {"name": TAG.HEALTH, "description": "For what watches the server"},
]
DESCRIPTION = (
    f"Every address is also answered without `/{VERSION}`. Errors are `{PROBLEM_JSON}` (RFC 9457): "
    "`code` is stable, `detail` says what to change."
)


def below_version(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document of bare addresses as that of the same ones below `/v1`."""
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    for one in operations:
        one["parameters"] = [*one.get("parameters", []), REQUEST_ID_GIVEN]
    for response in (answer for one in operations for answer in one["responses"].values()):
        response["headers"] = {**response.get("headers", {}), **REQUEST_ID}
    paths = {f"/{VERSION}{path}": methods for path, methods in document["paths"].items()}
    return {**document, "paths": paths}


def written(document: dict[str, Any]) -> bytes:
    """Return the document as JSON, to be sent many times."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def document_for(root: str, document: bytes) -> bytes:
    """Return the written document with the server beside it, whatever prefix a proxy puts before
    both.
    """
    server = {"url": root.rstrip("/"), "description": "this server"}
    return document[:-1] + b',"servers":[' + written(server) + b"]}"


def use_document(app: FastAPI) -> None:
    """Have the application describe itself as `below_version` does, once."""
    bare = app.openapi
    app.openapi = cache(lambda: below_version(bare()))  # type: ignore[method-assign]  # documented


def problem_responses(codes: Iterable[ErrorCode]) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of a route, codes listed by status."""
    by_status: dict[int, list[ErrorCode]] = defaultdict(list)
    for code in codes:
        by_status[STATUS[code]].append(code)
    return {
        status: {
            "model": Problem,
            "description": "Problem: " + ", ".join(names),
            "headers": HEADERS.get(status, {}),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _problem_example(status, names[0]),
                }
            },
        }
        for status, names in sorted(by_status.items())
    }


def _problem_example(status: int, code: ErrorCode) -> dict[str, Any]:
    return {
        "type": f"urn:xclip-serve:error:{code}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": "a sentence that says what to change",
        "request_id": "4f9d1c2e8b7a4d5c9e0f1a2b3c4d5e6f",
    }
