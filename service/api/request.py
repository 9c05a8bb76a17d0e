"""What POST /classify asks, checked field by field, before anything is decoded or computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_args

from model.inputs import check_template
from model.inputs.sampling import FrameChoice
from service.api.form import BodyLimits, Form
from service.api.form_fields import read_fields
from service.api.json_body import JsonBody
from service.api.json_fields import read_json
from service.api.label_fields import check_labels
from service.api.numbers import check_count, check_coverage, check_seconds
from service.contract.body import ClassifyBody, ClipBody, ClipSource
from service.contract.errors import ApiError
from service.contract.request import (
    ClassifyRequest,
    ClipRequest,
    ExplainKind,
    KnownClip,
    LinkedClip,
    Question,
    Sampling,
    ScoreKind,
    UploadedClip,
)
from service.contract.upload import Upload
from service.settings import Settings

VIDEO_ID = re.compile(r"[0-9a-f]{32}")

Body = TypeVar("Body", bound=ClipBody)


def check_address(names: Iterable[str], limits: BodyLimits) -> None:
    """Refuse fields that stand behind the ? of the address, where they would be passed over."""
    misplaced = next((name for name in names if name in {*limits.fields, limits.file_field}), None)
    if misplaced is not None:
        raise ApiError(
            "bad_field", f"{misplaced} stands in the address; send it as a field of the body"
        )


def parse_classify(
    given: Form | JsonBody, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> ClassifyRequest:
    """Read a question about a clip, and check it.

    Args:
        given: A form, or JSON.
        settings: The limits that hold here.
        given_up: Whether nobody waits any more; asked now and then.

    Returns:
        The request; its upload is that of `given`.

    Raises:
        ApiError: Names the field that is wrong, and what it may be.
    """
    return check_request(
        read_given(given, settings, ClassifyBody), given.upload, settings, given_up
    )


def parse_clip(
    given: Form | JsonBody, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> ClipRequest[None]:
    """Read which clip is sent, and how it is looked at; see `parse_classify`."""
    clip = check_clip(read_given(given, settings, ClipBody), given.upload, settings)
    if isinstance(clip, KnownClip):
        raise ApiError("bad_field", "a video_id is of a clip that is here; send its bytes")
    return ClipRequest(clip, None)


def read_given(given: Form | JsonBody, settings: Settings, kind: type[Body]) -> Body:
    """Read fields as they were written, in a form or in JSON. ApiError names one that is wrong."""
    if isinstance(given, JsonBody):
        return read_json(given, kind)
    return read_fields(given, settings, kind)


def check_request(
    fields: ClassifyBody,
    upload: Upload | None,
    settings: Settings,
    given_up: Callable[[], bool] = lambda: False,
) -> ClassifyRequest:
    """Check what is asked, however it was written; see `parse_classify`."""
    clip = check_clip(fields, upload, settings)
    return ClassifyRequest(clip, check_question(fields, settings, given_up))


def check_clip(
    fields: ClipBody, upload: Upload | None, settings: Settings
) -> UploadedClip | LinkedClip | KnownClip:
    """Return the one clip that is named, in a way that is open here; ApiError without one."""
    source = fields.video or ClipSource()
    if source.url is not None and not settings.video_url_hosts:
        raise ApiError("video_url_disabled", "video_url is not enabled here; upload the clip")
    named = source.id is not None or source.url is not None
    # A form sends its file field empty where no file was chosen.
    if upload is not None and not upload.size and named:
        upload = None
    if (upload is not None) + (source.id is not None) + (source.url is not None) != 1:
        raise ApiError(
            "bad_field" if upload is not None or named else "missing_field",
            "give the clip in one way: video (a file; in JSON video.data), or video_id of an "
            "earlier answer (video.id)"
            + (", or video_url (video.url)" if settings.video_url_hosts else ""),
        )
    if upload is not None and not upload.size:
        raise ApiError("bad_field", "video is an empty file")
    sampling = _sampling(fields, settings)
    if upload is not None:
        return UploadedClip(upload, sampling)
    if source.url is not None:
        return LinkedClip(source.url, sampling)
    assert source.id is not None
    if not VIDEO_ID.fullmatch(source.id):
        raise ApiError("bad_field", "video_id is not one of ours; copy it from an earlier answer")
    if sampling != Sampling(frame_rule=settings.frame_rule):
        raise ApiError(
            "bad_field",
            "video_id stands for what the network made of a clip with the start, end, views and "
            "frame_rule of its upload, and its bytes are not kept; leave these out, or upload the "
            "clip again",
        )
    return KnownClip(source.id)


def check_question(
    fields: ClassifyBody, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> Question:
    """Return what is asked about a clip, if it can be asked here. ApiError names a wrong field."""
    given = fields.labels or []
    if fields.label_set is not None and given:
        raise ApiError("bad_field", "label_set stands for labels; give one or the other")
    labels: tuple[str, ...] = ()
    if fields.label_set is None:
        labels = check_labels(given, settings.max_labels, settings.max_label_chars, given_up)
    return Question(
        labels=labels,
        label_set=fields.label_set,
        templates=check_templates(fields.templates or [], settings),
        top_k=check_count("top_k", fields.top_k, settings),
        shortlist=check_count("shortlist", fields.shortlist, settings),
        scores=_choice("scores", fields.scores, ScoreKind) or "softmax",
        open_set=bool(fields.open_set),
        coverage=check_coverage(fields.coverage),
        explain=_choice("explain", fields.explain, ExplainKind),
    )


def check_templates(values: list[str], settings: Settings) -> tuple[str, ...]:
    """Return the templates if they are some. ApiError `bad_template` or `too_many_templates`."""
    if len(values) > settings.max_templates:
        raise ApiError(
            "too_many_templates",
            f"there are {len(values)} templates, the limit is {settings.max_templates}",
        )
    for value in values:
        if len(value) > settings.max_label_chars:
            raise ApiError(
                "bad_template",
                f"a template has {len(value)} characters, the limit is {settings.max_label_chars}",
            )
    try:
        for value in values:
            value.encode()
        return tuple(check_template(value) for value in values)
    except UnicodeEncodeError:
        raise ApiError("bad_template", "a template holds half a surrogate pair") from None
    except ValueError as error:
        raise ApiError("bad_template", str(error)) from None


def _sampling(fields: ClipBody, settings: Settings) -> Sampling:
    start, end = check_seconds("start", fields.start), check_seconds("end", fields.end)
    if start is not None and end is not None and end <= start:
        raise ApiError("start_past_end", f"end ({end:g} s) must be after start ({start:g} s)")
    views = check_count("views", fields.views, settings) or 1
    rule: FrameChoice = _choice("frame_rule", fields.frame_rule, FrameChoice) or settings.frame_rule
    return Sampling(views, start, end, rule)


def _choice(name: str, text: str | None, kind: Any) -> Any:
    """Return a text that is one of the literals of a type; ApiError `bad_field` for another."""
    choices: tuple[str, ...] = get_args(kind)
    if text is not None and text not in choices:
        listed = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        raise ApiError("bad_field", f"{name} must be {listed}")
    return text
