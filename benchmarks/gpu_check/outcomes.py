"""What became of each thing that was to be checked: it ran, it failed, or it was not run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
RAN, FAILED, NOT_RUN = "ran", "failed", "not run"
# By name: each belongs to a library that may be absent.
OUT_OF_MEMORY = ("OutOfMemoryError", "DeviceMemoryError")
LONGEST = 300


class NotRun(Exception):
    """Something that is not installed or does not open here; the message is its own reason."""


class OutsideLimits(Exception):
    """Something that ran, and whose answers are too far from torch's; `figures` says how far."""

    def __init__(self, message: str, figures: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.figures = dict(figures)


def attempted(what: Mapping[str, Any], run: Callable[[], Mapping[str, Any]]) -> Row:
    """The row of one attempt: `what` it is, the figures of `run`, and how it went.

    Only an ImportError, a NotRun and a GPU without memory left are "not run"; all else that goes
    wrong is a failure.
    """
    found: Row = {}
    outcome, why = RAN, ""
    try:
        found = dict(run())
    except OutsideLimits as error:
        outcome, why, found = FAILED, one_line(error), error.figures
    except (NotRun, ImportError) as error:
        outcome, why = NOT_RUN, one_line(error)
    except Exception as error:
        name = type(error).__name__
        outcome = NOT_RUN if name in OUT_OF_MEMORY else FAILED
        why = f"{name}: {one_line(error)}"
    say(f"{' '.join(map(str, what.values()))}: {outcome}{f', {why}' if why else ''}")
    return {**what, **found, "outcome": outcome, "why": why}


def one_line(error: BaseException) -> str:
    """The first line of what it says, not endless."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:LONGEST]


def say(message: str) -> None:
    """A line of progress."""
    print(message, file=sys.stderr, flush=True)
