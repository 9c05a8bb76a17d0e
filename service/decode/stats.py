"""What a pool has done so far, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class PoolStats:
    """Counters since the start; they only grow.

    `ended` counts workers by why they ended: timeout, cpu, crash, forbidden (a system call that no
    decoder makes), garbage, failed, cancelled, jobs (retired after enough of them), memory
    (retired because it had grown), idle, start, stop.
    """

    jobs: int = 0
    decoded: int = 0
    refused: int = 0
    retried: int = 0
    dropped: int = 0
    started: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    busy_s: float = 0.0
