"""Time by stage of one request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.contract.answer import Timing


@dataclass
class StageTimer:
    """Seconds by stage; a stage that is entered twice adds up. `tell` hears of each as it ends."""

    tell: Callable[[str, float], None]
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """More time in a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.tell(stage, seconds)

    def timing(self) -> Timing:
        """As the answer gives it."""
        total = time.perf_counter() - self.started
        return Timing(
            **{stage: round(1000 * s, 2) for stage, s in self.seconds.items()},
            total=round(1000 * total, 2),
        )
