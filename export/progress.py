"""What a long command says while it works: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    """Names each step as it starts and its seconds when it is done."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Run one step."""
        started = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(what):
                yield
        else:
            self.console.print(f"{what} …", highlight=False)
            yield
        seconds = time.monotonic() - started
        self.console.print(f"{what}: done in {seconds:.1f} s", highlight=False)
