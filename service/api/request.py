"""The fields of POST /classify, checked one by one, before anything is decoded or computed."""

from __future__ import annotations

import json
import math
import re

from model.inputs import check_template, clean_label, fill_template, label_key
from service.api.form import Form
from service.contract.errors import ApiError
from service.contract.request import ClassifyRequest, Sampling
from service.settings import Settings

TEXT_FIELDS = frozenset(
    ["video_id", "video_url", "labels", "label_set", "template", "top_k", "shortlist", "start",
     "end", "views"]
)  # fmt: skip
FILE_FIELD = "video"
VIDEO_ID = re.compile(r"[0-9a-f]{32}")


def parse_request(form: Form, settings: Settings) -> ClassifyRequest:
    """Check a form; ApiError names the field and the limit."""
    fields = form.fields
    for name in TEXT_FIELDS - {"labels", "template"}:
        if len(fields.get(name, [])) > 1:
            raise ApiError("duplicate_field", f"{name} is given twice; give it once")
    _check_video(form, settings)
    video_id, video_url = _one(fields, "video_id"), _one(fields, "video_url")
    label_set = _one(fields, "label_set")
    if label_set is not None and ("labels" in fields or "template" in fields):
        raise ApiError("bad_field", "label_set stands for labels and template; give one or other")
    labels: tuple[str, ...] = ()
    prompts: tuple[tuple[str, ...], ...] = ()
    if label_set is None:
        labels = _labels(fields.get("labels", []), settings)
        templates = _templates(fields.get("template", []), settings)
        prompts = tuple(_prompts(label, templates) for label in labels)
    sampling = _sampling(fields, settings)
    if video_id is not None and sampling != Sampling():
        raise ApiError(
            "bad_field",
            "start, end and views were chosen when the clip was uploaded; leave them out, or "
            "upload the clip again",
        )
    top_k = _integer(fields, "top_k", 1, settings.max_labels)
    shortlist = _integer(fields, "shortlist", 1, settings.max_labels)
    return ClassifyRequest(
        labels, prompts, label_set, top_k, shortlist, sampling, video_id, video_url
    )


def _check_video(form: Form, settings: Settings) -> None:
    """Exactly one clip must be named, in a way that is open here."""
    video_id, video_url = _one(form.fields, "video_id"), _one(form.fields, "video_url")
    if video_url is not None and not settings.video_url_hosts:
        raise ApiError("video_url_disabled", "video_url is not enabled here; upload the clip")
    given = sum(way is not None for way in (form.upload, video_id, video_url))
    if given != 1:
        raise ApiError(
            "bad_field" if given else "missing_field",
            "give either video (a file) or video_id (from an earlier answer)"
            + (" or video_url" if settings.video_url_hosts else ""),
        )
    if form.upload is not None and form.upload.size == 0:
        raise ApiError("bad_field", "video is an empty file")
    if video_id is not None and not VIDEO_ID.fullmatch(video_id):
        raise ApiError("bad_field", "video_id is not one of ours; copy it from an earlier answer")


def _one(fields: dict[str, list[str]], name: str) -> str | None:
    return fields[name][0] if name in fields else None


def _labels(values: list[str], settings: Settings) -> tuple[str, ...]:
    if len(values) == 1 and values[0].lstrip().startswith("["):
        values = _json_labels(values[0])
    if not values:
        raise ApiError(
            "empty_labels", "give labels (repeated, or one JSON array) or the name of a label_set"
        )
    if len(values) > settings.max_labels:
        raise ApiError(
            "too_many_labels",
            f"labels has {len(values)} entries, the limit is {settings.max_labels}",
        )
    cleaned = [_clean(value, place, settings) for place, value in enumerate(values, start=1)]
    seen: dict[str, int] = {}
    for place, label in enumerate(cleaned, start=1):
        first = seen.setdefault(label_key(label), place)
        if first != place:
            raise ApiError(
                "duplicate_label",
                f"labels {first} and {place} are the same ({label[:60]!r}); give each label once",
            )
    return tuple(cleaned)


def _json_labels(text: str) -> list[str]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ApiError(
            "bad_field", "labels begins like a JSON array but is none; check quotes and commas"
        ) from None
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ApiError("bad_field", "labels must be a JSON array of strings")
    return values


def _clean(value: str, place: int, settings: Settings) -> str:
    if len(value) > settings.max_label_chars:
        raise ApiError(
            "label_too_long",
            f"label {place} has {len(value)} characters, the limit is {settings.max_label_chars}",
        )
    try:
        value.encode("utf-8")
        return clean_label(value)
    except UnicodeEncodeError:
        raise ApiError("bad_field", f"label {place} holds half a surrogate pair") from None
    except ValueError:
        raise ApiError("empty_label", f"label {place} is empty; write a word or phrase") from None


def _templates(values: list[str], settings: Settings) -> tuple[str, ...]:
    if len(values) > settings.max_templates:
        raise ApiError(
            "too_many_templates",
            f"template is given {len(values)} times, the limit is {settings.max_templates}",
        )
    for value in values:
        if len(value) > settings.max_label_chars:
            raise ApiError(
                "bad_template",
                f"a template has {len(value)} characters, the limit is {settings.max_label_chars}",
            )
        try:
            check_template(value)
        except ValueError as error:
            raise ApiError("bad_template", str(error)) from None
    return tuple(values)


def _prompts(label: str, templates: tuple[str, ...]) -> tuple[str, ...]:
    if not templates:
        return (label,)
    return tuple(fill_template(template, label).text for template in templates)


def _sampling(fields: dict[str, list[str]], settings: Settings) -> Sampling:
    start, end = _seconds(fields, "start"), _seconds(fields, "end")
    if start is not None and end is not None and end <= start:
        raise ApiError("start_past_end", f"end ({end:g} s) must be after start ({start:g} s)")
    return Sampling(_integer(fields, "views", 1, settings.max_views) or 1, start, end)


def _integer(fields: dict[str, list[str]], name: str, low: int, high: int) -> int | None:
    text = _one(fields, name)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
        raise ApiError("bad_field", f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _seconds(fields: dict[str, list[str]], name: str) -> float | None:
    text = _one(fields, name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0) or len(text) > 30:
        raise ApiError("bad_field", f"{name} must be a number of seconds, 0 or more")
    return value
