"""What is asked about a clip, as keyword arguments and as the fields of the API's form."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import BinaryIO, TypedDict

Video = str | os.PathLike[str] | bytes | BinaryIO
"""A clip: the path of a file, its bytes, or a stream (from its beginning, if it can seek)."""


class Options(TypedDict, total=False):
    """The optional fields of POST /classify; None counts as not given.

    Attributes:
        label_set: Name of a list stored in the bundle, instead of labels.
        template: One prompt with one `{}`, or several, which are averaged.
        top_k: Answer only so many of the best labels.
        shortlist: Score only so many labels, those nearest to the clip by plain cosine.
        start: Seconds; where to begin to look.
        end: Seconds; where to end.
        views: Temporal views to average.
        frame_rule: "exact", "keyframes" or "auto": which frame of each segment is taken.
    """

    label_set: str | None
    template: str | Sequence[str] | None
    top_k: int | None
    shortlist: int | None
    start: float | None
    end: float | None
    views: int | None
    frame_rule: str | None


Fields = dict[str, list[str]]


def form_fields(labels: Sequence[str], options: Options) -> Fields:
    """Return the text fields of a form.

    Raises:
        TypeError: `labels` is one text instead of several, or an option has no such name.
    """
    if isinstance(labels, str):
        raise TypeError("labels is one text; give a list of labels")
    if unknown := sorted(set(options) - Options.__annotations__.keys()):
        raise TypeError(
            f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}"
        )
    # One JSON array: a label that looks like a list stays one label.
    fields: Fields = {"labels": [json.dumps(list(labels))]} if labels else {}
    for name, value in options.items():
        if isinstance(value, str):
            fields[name] = [value]
        elif isinstance(value, float):
            fields[name] = [_seconds(value)]
        elif isinstance(value, Sequence):
            fields[name] = list(value)
        elif value is not None:
            fields[name] = [str(value)]
    return fields


def _seconds(value: float) -> str:
    text = repr(value)
    return f"{value:.9f}" if "e" in text else text
