"""What is asked about a clip: keyword arguments, JSON, and the fields of a form."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, TypedDict

Video = str | os.PathLike[str] | bytes | BinaryIO
"""A clip: the path of a file, an address such as `s3://bucket/clip.mp4`, its bytes, or a stream
(from its beginning, if it can seek)."""


class Options(TypedDict, total=False):
    """The optional fields of POST /v1/classify; None counts as not given.

    Attributes:
        label_set: Name of a list stored in the bundle, instead of labels.
        template: One prompt with one `{}`, or several, which are averaged.
        top_k: Answer only so many of the best labels.
        shortlist: Score only so many labels, those nearest to the clip by plain cosine.
        start: Seconds; where to begin to look.
        end: Seconds; where to end.
        views: Temporal views to average.
        frame_rule: "exact", "keyframes" or "auto": which frame of each segment is taken.
        scores: "softmax", where exactly one label is true; "sigmoid", where several may be.
        open_set: Also say how likely none of the labels is.
        coverage: Also give the labels that hold the true one with this probability.
        explain: "frames": also say what each of the frames adds to the best label.
    """

    label_set: str | None
    template: str | Sequence[str] | None
    top_k: int | None
    shortlist: int | None
    start: float | None
    end: float | None
    views: int | None
    frame_rule: str | None
    scores: str | None
    open_set: bool | None
    coverage: float | None
    explain: str | None


class TimelineOptions(TypedDict, total=False):
    """The optional fields of POST /v1/timeline; those that `Options` has as well mean the same.

    Attributes:
        window_s: Seconds of a window; 4 by default.
        stride_s: Seconds from the start of a window to that of the next; half a window by default.
        label_set: Name of a list stored in the bundle, instead of labels.
        template: One prompt with one `{}`, or several, which are averaged.
        top_k: How many of the best labels to answer of each window.
        start: Seconds; where to begin to look.
        end: Seconds; where to end.
        frame_rule: "exact", "keyframes" or "auto".
        scores: "softmax" or "sigmoid".
        open_set: Also say how likely none of the labels is; where it is likely no segment is.
    """

    window_s: float | None
    stride_s: float | None
    label_set: str | None
    template: str | Sequence[str] | None
    top_k: int | None
    start: float | None
    end: float | None
    frame_rule: str | None
    scores: str | None
    open_set: bool | None


class TimelineOptionsAndUrl(TimelineOptions, total=False):
    """`TimelineOptions`, and in place of the clip `video_url`: an address the server may fetch."""

    video_url: str | None


class OptionsAndId(Options, total=False):
    """`Options`, and in place of the clip `video_id`: the id of an earlier answer."""

    video_id: str | None


class OptionsAndSource(OptionsAndId, total=False):
    """`OptionsAndId`, and in place of the clip `video_url`: an address the server may fetch."""

    video_url: str | None


Question = dict[str, Any]
SOURCES = {"video_id": "id", "video_url": "url"}


def question(
    labels: Sequence[str],
    options: Options | TimelineOptions,
    known: type[Options] | type[TimelineOptions] = OptionsAndSource,
) -> Question:
    """Return what is asked as the JSON of a question, without the bytes of a clip.

    Args:
        labels: What may be seen.
        options: Optional fields.
        known: Which there are: by default those of POST /v1/classify.

    Raises:
        TypeError: `labels` is one text instead of several, or an option has no such name.
    """
    if isinstance(labels, str):
        raise TypeError("labels is one text; give a list of labels")
    if unknown := sorted(options.keys() - known.__annotations__.keys()):
        names = ", ".join(name for name in known.__annotations__ if name not in SOURCES)
        raise TypeError(f"there is no option {unknown[0]!r}; there are {names}")
    given: dict[str, Any] = {
        name: _plain(value) for name, value in options.items() if value is not None
    }
    source = {SOURCES[name]: given.pop(name) for name in SOURCES if name in given}
    if (template := given.pop("template", None)) is not None:
        given["templates"] = [template] if isinstance(template, str) else list(template)
    return {
        **({"video": source} if source else {}),
        **({"labels": list(labels)} if labels else {}),
        **given,
    }


def form_fields(question: Question) -> dict[str, str]:
    """Return the same as the fields of a form, beside which the clip is sent as a file."""
    fields = {name: _text(value) for name, value in question.items() if name != "video"}
    if "templates" in fields:
        fields["template"] = fields.pop("templates")
    source = question.get("video", {})
    return fields | {name: source[key] for name, key in SOURCES.items() if key in source}


def _text(value: Any) -> str:
    # Lists as one JSON array: a label that looks like a list stays one label.
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python."""
    if isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if hasattr(value, "__float__") else value
