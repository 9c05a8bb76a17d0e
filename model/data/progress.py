"""Progress over the clips of a list: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

WORTH_TENTHS = 50  # clips; of fewer only the end is said


@contextmanager
def counting(what: str, total: int, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Give a function to be called once for each clip."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=not shown)
    if not shown or not console.is_terminal:
        yield _lines(what, total, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _lines(what: str, total: int, console: Console) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tenth = total >= WORTH_TENTHS and done * 10 // total > (done - 1) * 10 // total
        if done == total or tenth:
            console.print(f"{what}: {done} of {total}", markup=False)

    return advance
