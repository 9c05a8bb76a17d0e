"""The fields of a question that is JSON, or keyword arguments: checked for their types."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.api.form import unknown_field
from service.api.json_body import HOW_TO_NAME, JsonBody
from service.contract.body import ClipBody, ClipSource
from service.contract.errors import ApiError

TEXTS_ALONE = (
    "input must be a text, or a list of texts; token ids are not read, so let the client send texts"
)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Body = TypeVar("Body", bound=ClipBody)


def read_json(body: JsonBody, kind: type[Body]) -> Body:
    """Read the fields of a JSON body.

    Raises:
        ApiError: It is no JSON, or a field is unknown, or of another type; which one, in `detail`.
    """
    try:
        value = json.loads(body.text.decode("utf-8-sig"), object_pairs_hook=_once)
        if SURROGATE.search(body.text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError("bad_field", "a text holds half a surrogate pair") from None
    except UnicodeDecodeError:
        raise ApiError("malformed_request", "the JSON is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ApiError("malformed_request", f"the body is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits
        raise ApiError("malformed_request", "the body is not JSON that can be read") from None
    if not isinstance(value, dict):
        raise ApiError("malformed_request", 'the body is JSON, but no object: {"video": …}')
    fields = body_of(value, kind)
    if fields.video is None and kind.needs_clip:
        raise ApiError("missing_field", 'video is missing: {"data": "…"}, {"id": "…"}')
    if fields.video is not None and fields.video.data and body.upload is None:
        raise ApiError("malformed_request", "write the names video and data without escapes")
    return fields


def body_of(fields: dict[str, Any], kind: type[Body]) -> Body:
    """Check the names and types of fields.

    Raises:
        ApiError: `unknown_field`, or `bad_field` for another type.
    """
    _check_names(fields, kind)
    source = fields.get("video")
    if isinstance(source, dict):
        _check_names(source, ClipSource)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = [*map(str, first["loc"])]
        if path == ["video"]:
            raise ApiError("bad_field", HOW_TO_NAME) from None
        if path[:1] == ["input"]:
            raise ApiError("bad_field", TEXTS_ALONE) from None
        where = ".".join(path)[:60]
        raise ApiError("bad_field", f"{where}: {first['msg'].lower()}") from None


def _check_names(fields: dict[str, Any], kind: type[BaseModel]) -> None:
    """Name the first field that there is none of: there may be thousands."""
    if not fields.keys() <= kind.model_fields.keys():
        name = next(name for name in fields if name not in kind.model_fields)
        raise unknown_field(str(name), kind.model_fields)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; two values of one name would be read differently by every reader."""
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(
            name for name, times in Counter(name for name, _ in pairs).items() if times > 1
        )
        raise ApiError("duplicate_field", f"{twice[:60]!r} is given twice; give it once")
    return value
