"""What a long command says while it works: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

NOTE_EVERY_S = 15  # where there is no terminal to write over a line


class Steps:
    """Names each step as it starts and its seconds when it is done."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._what = ""
        self._status: Status | None = None
        self._noted = 0.0

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Run one step."""
        started = self._noted = time.monotonic()
        self._what = what
        if self.console.is_terminal:
            with self.console.status(what) as self._status:
                yield
            self._status = None
        else:
            self.console.print(f"{what} …", highlight=False)
            yield
        seconds = time.monotonic() - started
        self.console.print(f"{what}: done in {seconds:.1f} s", highlight=False)

    def note(self, how_far: str) -> None:
        """Say how far the running step is; it may be asked a thousand times a second."""
        if self._status is not None:
            self._status.update(f"{self._what}: {how_far}")
        elif time.monotonic() - self._noted > NOTE_EVERY_S:
            self._noted = time.monotonic()
            self.console.print(f"{self._what}: {how_far}", highlight=False)
