"""The time that one request spends in each stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from service.contract.answer import Timing


@dataclass
class StageTimer:
    """Adds up seconds by stage; `report` is told of each stage as it ends."""

    report: Callable[[str, float], None]
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds that have just been spent in a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.report(stage, seconds)

    @contextlib.contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Count the time that the block takes, unless it fails."""
        started = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - started)

    def timing(self) -> Timing:
        """Return milliseconds, as the answer gives them."""
        total = time.perf_counter() - self.started
        return Timing(
            **{stage: round(1000 * s, 2) for stage, s in self.seconds.items()},
            total=round(1000 * total, 2),
        )
