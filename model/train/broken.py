"""Clips that cannot be decoded: passed over, counted, listed; too many of them stop a run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.data.frames.reading import Broken
from model.processes import Processes
from model.train.errors import TrainError


class BrokenClips:
    """The distinct broken clips of a list that were met so far."""

    def __init__(
        self, clips: int, max_share: float, known: Mapping[str, str] | None = None
    ) -> None:
        self.clips, self.max_share = clips, max_share
        self.reasons: dict[str, str] = dict(known or {})

    def add(self, met: Iterable[Broken]) -> None:
        """Count them; TrainError above the allowed share."""
        self.reasons.update({broken.name: broken.reason for broken in met})
        self._check(everywhere=False)

    def share(self, processes: Processes) -> None:
        """Tell every process of what each has met: it meets only its own."""
        for reasons in processes.collected(self.reasons):
            self.reasons.update(reasons)
        self._check(everywhere=True)

    def _check(self, *, everywhere: bool) -> None:
        if len(self.reasons) > self.max_share * self.clips:
            name, reason = next(reversed(self.reasons.items()))
            raise TrainError(
                f"{len(self.reasons)} of {self.clips} clips cannot be used, more than "
                f"data.max_broken_share {self.max_share:g}; the last is {name} ({reason}): run "
                "python -m model.data check, or raise the limit",
                everywhere=everywhere,
            )

    def write(self, file: Path) -> None:
        """Write a line for each clip."""
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("path", "reason"))
            writer.writerows(sorted(self.reasons.items()))
