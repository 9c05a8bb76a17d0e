"""Why a run does not start, or stops."""

from __future__ import annotations


class TrainError(ValueError):
    """A run that cannot go on; the message says why and what to do, on one line.

    `everywhere`: every process of the run found the same, so one of them may speak for all.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class OutOfMemory(Exception):
    """A micro-batch did not fit into memory, in this process or in another; the message says what
    was asked for. Every process of the run raises it, and no weight has changed.
    """
