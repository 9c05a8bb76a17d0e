"""The fields of a form, which are texts: read for what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from service.api.form import Form
from service.api.label_fields import listed
from service.api.numbers import most_values, not_a_count, not_a_coverage, not_a_length, not_seconds
from service.contract.body import ClipBody, ClipSource
from service.contract.errors import ApiError
from service.contract.timeline import LEAST_WINDOW_S
from service.settings import Settings

REPEATED_FIELDS = frozenset(["labels", "template", "input"])
FILE_FIELD = "video"
BYTES_PER_CHAR = 8  # of JSON: an escape, and what is around the texts
SOURCES = {"video_id": "id", "video_url": "url"}
WHOLE_NUMBER = re.compile(r"(\d{1,9})(\.0*)?")
SECONDS = re.compile(r"(\d{1,15}\.?\d{0,20}|\.\d{1,20})(e[+-]?\d{1,2})?", re.IGNORECASE)
CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)")
# What programs send for a value that they do not have.
NO_VALUE = frozenset(["null", "none", "undefined", "nan"])

Body = TypeVar("Body", bound=ClipBody)
Fields = Mapping[str, list[str]]


def form_names(kind: type[ClipBody]) -> frozenset[str]:
    """Return the names of the text fields of a form: those of JSON, but for a clip that is no file,
    and in the singular where a field is repeated.
    """
    names = {*kind.model_fields, *SOURCES} - {"video"}
    return frozenset("template" if name == "templates" else name for name in names)


def read_fields(form: Form, settings: Settings, kind: type[Body]) -> Body:
    """Read the fields of a form. A text field that is empty counts as not given.

    Raises:
        ApiError: Names the field that is wrong, and what it may be.
    """
    fields = {name: list(filter(str.strip, values)) for name, values in form.fields.items()}
    for name, values in fields.items():
        if len(values) > 1 and name not in REPEATED_FIELDS:
            raise ApiError("duplicate_field", f"{name} is given twice; give it once")
    read = {name: READERS.get(name, _text)(fields, name, settings) for name in kind.model_fields}
    source = {key: _text(fields, name) for name, key in SOURCES.items()}
    return kind.model_validate({**read, "video": ClipSource(**source)})


def _text(fields: Fields, name: str, _: Settings | None = None) -> str | None:
    values = fields.get(name)
    return values[0].strip() if values else None


def _labels(fields: Fields, name: str, settings: Settings) -> list[str]:
    return listed(fields.get(name, []), most_values(settings))


def _templates(fields: Fields, _: str, settings: Settings) -> list[str]:
    """Return templates, one a field, or JSON arrays of them."""
    longest = BYTES_PER_CHAR * settings.max_templates * settings.max_label_chars
    templates = []
    for value in fields.get("template", []):
        array = None
        if len(value) <= longest and value.lstrip().startswith("["):  # or a template that begins so
            try:
                array = json.loads(value)
            except (ValueError, RecursionError):
                array = None
        if isinstance(array, list) and all(isinstance(one, str) for one in array):
            templates += array
        else:
            templates.append(value)
    return templates


def _count(fields: Fields, name: str, settings: Settings) -> int | None:
    text = _text(fields, name)
    if text is None:
        return None
    number = WHOLE_NUMBER.fullmatch(text)
    if not number:
        raise not_a_count(name, settings, _hint(text))
    return int(number[1])


def _seconds(fields: Fields, name: str, _: Settings) -> float | None:
    text = _text(fields, name)
    if text is None:
        return None
    if not SECONDS.fullmatch(text):
        raise not_seconds(name, _hint(text))
    return float(text)


def _length(fields: Fields, name: str, settings: Settings) -> float | None:
    text = _text(fields, name)
    if text is None:
        return None
    if not SECONDS.fullmatch(text):
        least = LEAST_WINDOW_S if name == "window_s" else 0
        raise not_a_length(name, least, settings.max_duration_s, _hint(text))
    return float(text)


def _texts(fields: Fields, name: str, _: Settings) -> list[str] | None:
    return fields.get(name) or None


def _whole(fields: Fields, name: str, _: Settings) -> int | None:
    text = _text(fields, name)
    if text is None:
        return None
    number = WHOLE_NUMBER.fullmatch(text)
    if not number:
        raise ApiError("bad_field", f"{name} must be a whole number{_hint(text)}")
    return int(number[1])


def _truth(fields: Fields, name: str, _: Settings) -> bool | None:
    text = _text(fields, name)
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise ApiError("bad_field", f"{name} must be true or false{_hint(text)}")
    return text.lower() == "true"


def _coverage(fields: Fields, name: str, _: Settings) -> float | None:
    text = _text(fields, name)
    if text is None:
        return None
    if not SECONDS.fullmatch(text):
        raise not_a_coverage(_hint(text))
    return float(text)


READERS: Mapping[str, Callable[[Fields, str, Settings], object]] = {
    "labels": _labels,
    "templates": _templates,
    "top_k": _count,
    "shortlist": _count,
    "views": _count,
    "window_s": _length,
    "stride_s": _length,
    "start": _seconds,
    "end": _seconds,
    "open_set": _truth,
    "coverage": _coverage,
    "input": _texts,
    "normalize": _truth,
    "dimensions": _whole,
}


def _hint(text: str) -> str:
    """Say what was probably meant by a text that is no number."""
    if text.lower() in NO_VALUE:
        return "; leave the field out for the default"
    if re.fullmatch(r"\d{1,9},\d{1,9}", text):
        return f"; write {text.replace(',', '.')} with a point"
    if clock := CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return f"; write {3600 * hours + 60 * minutes + seconds:g} for {text}"
    return ""
