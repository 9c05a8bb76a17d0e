"""What a person sees: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.progress import Progress, TextColumn

from model.progress import progress_bar, progress_console

RECENT = 50  # updates that speed and data-wait are taken over


class Pace:
    """Speed over the recent updates, and the share of it spent waiting for data."""

    def __init__(self, clips: int) -> None:
        self.clips = clips
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, seconds: float, waited: float) -> None:
        """Note an update, and how long of it no batch was there."""
        self._recent.append((seconds, waited))

    @property
    def clips_per_s(self) -> float:
        """Clips of all processes a second."""
        total = sum(seconds for seconds, _ in self._recent)
        return self.clips * len(self._recent) / total if total else 0.0

    @property
    def data_wait(self) -> float:
        """From 0 to 1."""
        total = sum(seconds for seconds, _ in self._recent)
        return sum(waited for _, waited in self._recent) / total if total else 0.0

    def left_s(self, updates: int) -> float:
        """Return seconds that so many more updates take."""
        total = sum(seconds for seconds, _ in self._recent)
        return updates * total / max(len(self._recent), 1)


class Display:
    """The progress of a run; silent where `shown` is False, as in all processes but one."""

    def __init__(self, start: int, updates: int, every: int, shown: bool = True) -> None:
        self.updates, self.every, self.shown = updates, every, shown
        self.console = progress_console(shown=shown)
        self._bar: Progress | None = None
        if shown and self.console.is_terminal:
            self._bar = progress_bar(self.console, TextColumn("{task.fields[figures]}"))
            self._task = self._bar.add_task(
                "training", total=updates, completed=start, figures="starting"
            )

    def say(self, message: str) -> None:
        """Print a line that stays."""
        if self.shown:
            self.console.print(message, markup=False)

    def update(self, number: int, loss: float, lr: float, pace: Pace) -> None:
        """Show that an update (from 0) is done."""
        if not self.shown:
            return
        figures = (
            f"loss {loss:.4f}  lr {lr:.2e}  {pace.clips_per_s:.1f} clips/s  "
            f"data wait {pace.data_wait:.0%}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=number + 1, figures=figures)
        elif (number + 1) % self.every == 0 or number + 1 == self.updates:
            left = time.strftime("%H:%M:%S", time.gmtime(pace.left_s(self.updates - number - 1)))
            self.say(f"update {number + 1}/{self.updates}  {figures}  left {left}")

    @contextmanager
    def measuring(self, clips: int) -> Iterator[Callable[[], None]]:
        """Give a function to be called after each clip that accuracy is measured on."""
        if self._bar is None:
            yield lambda: None
            return
        bar, task = self._bar, self._bar.add_task("measuring", total=clips, figures="accuracy")
        try:
            yield lambda: bar.advance(task)
        finally:
            bar.remove_task(task)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
