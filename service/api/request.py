"""The fields of POST /classify, checked one by one, before anything is decoded or computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from model.inputs import check_template
from model.inputs.sampling import FrameChoice
from service.api.form import Form
from service.api.label_fields import parse_labels
from service.contract.errors import ApiError
from service.contract.request import (
    ClassifyRequest,
    KnownClip,
    LinkedClip,
    Question,
    Sampling,
    UploadedClip,
)
from service.settings import Settings

TEXT_FIELDS = frozenset(
    ["video_id", "video_url", "labels", "label_set", "template", "top_k", "shortlist", "start",
     "end", "views", "frame_rule"]
)  # fmt: skip
REPEATED_FIELDS = frozenset(["labels", "template"])
FILE_FIELD = "video"
VIDEO_ID = re.compile(r"[0-9a-f]{32}")
WHOLE_NUMBER = re.compile(r"(\d{1,9})(\.0*)?")
SECONDS = re.compile(r"(\d{1,15}\.?\d{0,15}|\.\d{1,15})(e[+-]?\d)?", re.IGNORECASE)
CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)")
# What programs send for a value that they do not have.
NO_VALUE = frozenset(["null", "none", "undefined", "nan"])

Fields = Mapping[str, list[str]]


def check_address(names: Iterable[str]) -> None:
    """Refuse fields that stand behind the ? of the address, where they would be passed over."""
    misplaced = next((name for name in names if name in {*TEXT_FIELDS, FILE_FIELD}), None)
    if misplaced is not None:
        raise ApiError(
            "bad_field", f"{misplaced} stands in the address; send it as a field of the form"
        )


def parse_request(
    form: Form, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> ClassifyRequest:
    """Check a form and say what it asks. A text field that is empty counts as not given.

    Args:
        form: The text fields by name, and the file if there is one.
        settings: The limits that hold here.
        given_up: Whether nobody waits any more; asked now and then.

    Returns:
        The request; its upload is the form's own.

    Raises:
        ApiError: Names the field that is wrong, and what it may be.
    """
    fields = {name: list(filter(str.strip, values)) for name, values in form.fields.items()}
    fields["labels"] = form.fields.get("labels", [])
    for name, values in fields.items():
        if len(values) > 1 and name not in REPEATED_FIELDS:
            raise ApiError("duplicate_field", f"{name} is given twice; give it once")
    clip = _clip(form, fields, settings)
    return ClassifyRequest(clip, _question(fields, settings, given_up))


def _clip(form: Form, fields: Fields, settings: Settings) -> UploadedClip | LinkedClip | KnownClip:
    """Return the one clip that is named, in a way that is open here."""
    video_id, video_url = _one(fields, "video_id"), _one(fields, "video_url")
    if video_url is not None and not settings.video_url_hosts:
        raise ApiError("video_url_disabled", "video_url is not enabled here; upload the clip")
    named = video_id is not None or video_url is not None
    # A form sends its file field empty where no file was chosen.
    upload = None if form.upload is not None and not form.upload.size and named else form.upload
    if (upload is not None) + (video_id is not None) + (video_url is not None) != 1:
        raise ApiError(
            "bad_field" if upload is not None or named else "missing_field",
            "give either video (a file) or video_id (from an earlier answer)"
            + (" or video_url" if settings.video_url_hosts else ""),
        )
    if upload is not None and not upload.size:
        raise ApiError("bad_field", "video is an empty file")
    sampling = _sampling(fields, settings)
    if upload is not None:
        return UploadedClip(upload, sampling)
    if video_url is not None:
        return LinkedClip(video_url, sampling)
    assert video_id is not None
    if not VIDEO_ID.fullmatch(video_id):
        raise ApiError("bad_field", "video_id is not one of ours; copy it from an earlier answer")
    if sampling != Sampling(frame_rule=settings.frame_rule):
        raise ApiError(
            "bad_field",
            "video_id stands for what the network made of a clip with the start, end, views and "
            "frame_rule of its upload, and its bytes are not kept; leave these out, or upload the "
            "clip again",
        )
    return KnownClip(video_id)


def _question(fields: Fields, settings: Settings, given_up: Callable[[], bool]) -> Question:
    label_set = _one(fields, "label_set")
    given = [label for label in fields["labels"] if label.strip()]
    if label_set is not None and given:
        raise ApiError("bad_field", "label_set stands for labels; give one or the other")
    labels: tuple[str, ...] = ()
    if label_set is None:
        labels = parse_labels(
            fields["labels"], settings.max_labels, settings.max_label_chars, given_up
        )
    return Question(
        labels=labels,
        label_set=label_set,
        templates=_templates(fields.get("template", []), settings),
        top_k=_integer(fields, "top_k", 1, settings.max_labels),
        shortlist=_integer(fields, "shortlist", 1, settings.max_labels),
    )


def _one(fields: Fields, name: str) -> str | None:
    values = fields.get(name)
    return values[0].strip() if values else None


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
        return tuple(check_template(value) for value in values)
    except ValueError as error:
        raise ApiError("bad_template", str(error)) from None


def _sampling(fields: Fields, settings: Settings) -> Sampling:
    start, end = _seconds(fields, "start"), _seconds(fields, "end")
    if start is not None and end is not None and end <= start:
        raise ApiError("start_past_end", f"end ({end:g} s) must be after start ({start:g} s)")
    views = _integer(fields, "views", 1, settings.max_views) or 1
    return Sampling(views, start, end, _frame_rule(fields, settings))


def _frame_rule(fields: Fields, settings: Settings) -> FrameChoice:
    text = _one(fields, "frame_rule")
    choices: tuple[FrameChoice, ...] = get_args(FrameChoice)
    for choice in choices:
        if text == choice:
            return choice
    if text is not None:
        raise ApiError("bad_field", f"frame_rule must be {', '.join(choices[:-1])} or auto")
    return settings.frame_rule


def _integer(fields: Fields, name: str, low: int, high: int) -> int | None:
    text = _one(fields, name)
    if text is None:
        return None
    number = WHOLE_NUMBER.fullmatch(text)
    if not number or not low <= int(number[1]) <= high:
        raise ApiError(
            "bad_field", f"{name} must be a whole number from {low} to {high}{_hint(text)}"
        )
    return int(number[1])


def _seconds(fields: Fields, name: str) -> float | None:
    text = _one(fields, name)
    if text is None:
        return None
    if not SECONDS.fullmatch(text):
        raise ApiError("bad_field", f"{name} must be a number of seconds, 0 or more{_hint(text)}")
    return float(text)


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
