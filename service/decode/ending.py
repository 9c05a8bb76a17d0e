"""Why decode workers end: one vocabulary for the pool, its metrics and the log."""

from __future__ import annotations

from enum import StrEnum


class Ending(StrEnum):
    """The reason why a worker process ended; the value is its label in the metrics."""

    TIMEOUT = "timeout"  # over the limit of wall time
    CPU = "cpu"  # over the limit of processor time
    CRASH = "crash"  # died of the clip that it decoded
    FORBIDDEN = "forbidden"  # made a system call that no decoder makes
    GARBAGE = "garbage"  # answered something that is no answer
    FAILED = "failed"  # an error of this program
    CANCELLED = "cancelled"  # nobody waited for its clip any more
    JOBS = "jobs"  # retired: decoded as many clips as one worker may
    MEMORY = "memory"  # retired: holds more memory than when it was fresh
    IDLE = "idle"  # died between two clips
    START = "start"  # never got ready
    STOP = "stop"  # the pool was stopped


OUT_OF_TIME = frozenset({Ending.TIMEOUT, Ending.CPU})
# Endings that are planned, or that the log line of the job itself reports.
UNREMARKABLE = frozenset({Ending.STOP, Ending.JOBS, Ending.MEMORY, Ending.CANCELLED})
