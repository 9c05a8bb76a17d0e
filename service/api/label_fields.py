"""Labels: a list in every way that people and programs write one, and what each must be."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from model.inputs import clean_label, label_key
from service.api.percent import LONE_PERCENT, percent_decoded
from service.contract.errors import ApiError

BYTE_ORDER_MARK = "\ufeff"
BREAKS = "\r\n\v\f\x85\u2028\u2029"
LINE_BREAKS = re.compile(f"[{BREAKS}]+")
VALUES = ('"', "[", "{")  # what values of JSON begin with; the first number ends the reading
ENCODED_ARRAY = re.compile(r"\s*%5b", re.IGNORECASE)
HOW_TO_LIST = "repeat the field, write one label a line, or send one JSON array"
NO_ARRAY = (
    "labels begins like a JSON array but is none: each label stands in double quotes, with commas "
    'between: ["a cat", "a dog"]; a shell takes the quotes away unless the whole field stands in '
    "single ones"
)
NO_STRINGS = 'labels must be a JSON array of strings: ["a cat", "a dog"]'


def check_labels(
    labels: Sequence[str],
    max_labels: int,
    max_label_chars: int,
    given_up: Callable[[], bool] = lambda: False,
) -> tuple[str, ...]:
    """Clean labels, and refuse those that cannot be told apart.

    Args:
        labels: As they were written, in order.
        max_labels: Most labels taken.
        max_label_chars: Most characters of one label.
        given_up: Asked between labels; what nobody waits for any more ends.

    Returns:
        Cleaned labels, at least one, no two alike to the network.

    Raises:
        ApiError: The labels are none, too many, too long, empty or alike; which one, in `detail`.
    """
    if not labels:
        raise ApiError("empty_labels", f"give labels ({HOW_TO_LIST}) or the name of a label_set")
    if len(labels) > max_labels:
        raise ApiError(
            "too_many_labels", f"labels has {len(labels)} entries, the limit is {max_labels}"
        )
    cleaned = clean_texts(labels, max_label_chars, given_up)
    _check_different(cleaned)
    return cleaned


def clean_texts(
    texts: Sequence[str], max_chars: int, given_up: Callable[[], bool] = lambda: False
) -> tuple[str, ...]:
    """Clean texts, each for itself. ApiError names one that is empty or too long."""
    cleaned = []
    for number, text in enumerate(texts, start=1):
        if given_up():
            raise ApiError("client_disconnected", "nobody waits for the answer")
        cleaned.append(_clean(text, number, max_chars))
    return tuple(cleaned)


def listed(fields: Sequence[str], max_values: int = sys.maxsize) -> list[str]:
    """Read the values of a field of labels: one each, one a line, or JSON arrays of strings.

    Args:
        fields: The values, in order.
        max_values: Most lines, or values of JSON: megabytes of these are read in one go, for which
            everybody waits.

    Raises:
        ApiError: What looks like JSON is none, or there are too many.
    """
    for field in fields:
        _check_values(field, max_values)
    fields = [field.lstrip(BYTE_ORDER_MARK) for field in fields]
    fields = [field for field in fields if field.strip()]  # the empty rows of a form
    if len(fields) == 1:
        return _from_one_field(fields[0], max_values)
    labels: list[str] = []
    for field in fields:
        try:
            labels += _json_array(field)
        except ValueError:
            labels += _lines(field)
        if len(labels) > max_values:  # of many fields together
            raise _too_many(max_values)
    return labels


def _unquoted(field: str) -> str:
    written = field.encode()
    if LONE_PERCENT.search(written):
        return field
    return percent_decoded(written).decode("utf-8", "replace")


def _from_one_field(field: str, max_values: int) -> list[str]:
    if ENCODED_ARRAY.match(field):
        field = _unquoted(field)
        _check_values(field, max_values)
    text = field.lstrip()
    if text.startswith("{"):
        raise ApiError("bad_field", "labels is a JSON object; send the array of labels alone")
    if not text.startswith("["):
        return _lines(field)
    try:
        return _json_array(text)
    except ValueError as error:
        raise ApiError("bad_field", str(error)) from None


class _NoLabel(Exception):
    """A number, of which megabytes would be read before anybody looks."""


def _no_label(_: str) -> NoReturn:
    raise _NoLabel


def _json_array(text: str) -> list[str]:
    """Read the strings of a JSON array; ValueError where the text is none."""
    try:
        values = json.loads(text, parse_int=_no_label, parse_float=_no_label)
    except _NoLabel:
        raise ValueError(NO_STRINGS) from None
    except (ValueError, RecursionError):
        raise ValueError(NO_ARRAY) from None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(NO_STRINGS)
    return values


def _check_values(text: str, most: int) -> None:
    """Refuse what falls into too many lines or values; counting takes a hundredth of reading."""
    if max(sum(map(text.count, VALUES)), sum(map(text.count, BREAKS))) > most:
        raise _too_many(most)


def _too_many(most: int) -> ApiError:
    return ApiError("too_many_labels", f"labels has more than {most} lines or values")


def _lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty."""
    return [line for line in LINE_BREAKS.split(text) if line.strip()]


def _clean(label: str, number: int, max_chars: int) -> str:
    if len(label) > max_chars:
        raise ApiError(
            "label_too_long",
            f"label {number} has {len(label)} characters, the limit is {max_chars}",
        )
    try:
        label.encode("utf-8")
        return clean_label(label)
    except UnicodeEncodeError:
        raise ApiError("bad_field", f"label {number} holds half a surrogate pair") from None
    except ValueError:
        raise ApiError("empty_label", f"label {number} is empty; write a word or phrase") from None


def _check_different(labels: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, start=1):
        key = label_key(label)
        if not key:  # such as &Tab;, which the network reads as the tab that it names
            raise ApiError("empty_label", f"label {number} is empty; write a word or phrase")
        first = seen.setdefault(key, number)
        if first != number:
            raise ApiError(
                "duplicate_label",
                f"labels {first} and {number} are the same ({label[:60]!r}); give each label once",
            )
