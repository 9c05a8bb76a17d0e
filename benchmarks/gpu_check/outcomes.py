"""What became of each thing that was to be checked: it ran, it failed, or it was not run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")
Row = dict[str, Any]
RAN, FAILED, NOT_RUN = "ran", "failed", "not run"
# By name: each belongs to a library that may be absent.
OUT_OF_MEMORY = ("OutOfMemoryError", "DeviceMemoryError")
# What a row is about; all else in it was measured.
NAMES = ("variant", "what", "precision", "batch", "clients")
LONGEST = 300


class NotRun(Exception):
    """Something that is not installed or does not open here; the message is its own reason."""


class OutsideLimits(Exception):
    """Something that ran, and whose answers are too far from torch's; `figures` says how far."""

    def __init__(self, message: str, figures: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.figures = dict(figures)


def attempted(what: Mapping[str, Any], run: Callable[[], Mapping[str, Any]]) -> Row:
    """Attempt `run`; return a row of `what` it is, its figures, and how it went."""
    try:
        row = {**what, **run(), "outcome": RAN, "why": ""}
    except Exception as error:
        row = went_wrong(what, error)
    say(row)
    return row


def opened(what: Mapping[str, Any], make: Callable[[], Value]) -> tuple[Value | None, Row | None]:
    """Return what `make` gives; where it raises, the row that says why."""
    try:
        return make(), None
    except Exception as error:
        row = went_wrong(what, error)
        say(row)
        return None, row


def went_wrong(what: Mapping[str, Any], error: Exception) -> Row:
    """Return the row of an attempt that ended so.

    Only an ImportError, a NotRun and a GPU without memory left are "not run"; all else has failed.
    """
    name, why = type(error).__name__, one_line(error)
    if isinstance(error, OutsideLimits):
        return {**what, **error.figures, "outcome": FAILED, "why": why}
    if isinstance(error, (NotRun, ImportError)):
        return {**what, "outcome": NOT_RUN, "why": why}
    outcome = NOT_RUN if name in OUT_OF_MEMORY else FAILED
    return {**what, "outcome": outcome, "why": f"{name}: {why}"}


def one_line(error: BaseException) -> str:
    """Return the first line of what the error says, cut to a length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:LONGEST]


def name_of(row: Row) -> str:
    """Say in words what a row is about."""
    names = {k: row[k] for k in NAMES if row.get(k)}
    return " ".join(f"{k} {v}" if isinstance(v, int) else v for k, v in names.items())


def say(row: Row | str) -> None:
    """Print a line of progress: a message, or what became of an attempt."""
    if not isinstance(row, str):
        figures = [f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float)]
        told = ", ".join([row["outcome"], *figures, row["why"]]).removesuffix(", ")
        row = f"{name_of(row)}: {told}"
    print(row, file=sys.stderr, flush=True)
