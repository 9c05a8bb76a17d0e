"""Progress of long commands: a bar or a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status

WORTH_TENTHS = 50  # items; of fewer only the end is said
NOTE_EVERY_S = 15  # where there is no terminal to write over a line


def progress_console(*, shown: bool = True) -> Console:
    """Return the console that progress is written to: standard error, silent if not `shown`."""
    return Console(stderr=True, soft_wrap=True, highlight=False, quiet=not shown)


def progress_bar(console: Console, *figures: ProgressColumn, transient: bool = False) -> Progress:
    """Return the project's bar, with columns for `figures` between the count and the times."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *figures,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
    )


@contextmanager
def progress(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Yield a function to be called once for each of `total` items."""
    console = progress_console(shown=shown)
    if not shown or not console.is_terminal:
        yield _tenths(what, total, console)
        return
    with progress_bar(console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _tenths(what: str, total: int, console: Console) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tenth = total >= WORTH_TENTHS and done * 10 // total > (done - 1) * 10 // total
        if done == total or tenth:
            console.print(f"{what}: {done} of {total}", markup=False)

    return advance


class Steps:
    """Name each step of a command as it starts, and its seconds when it is done."""

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
        """Say how far the running step is; may be called a thousand times a second."""
        if self._status is not None:
            self._status.update(f"{self._what}: {how_far}")
        elif time.monotonic() - self._noted > NOTE_EVERY_S:
            self._noted = time.monotonic()
            self.console.print(f"{self._what}: {how_far}", highlight=False)
