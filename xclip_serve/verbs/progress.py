"""How far a run over many clips is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

NOTE_EVERY_S = 15  # where there is no terminal to write over a line


class Advance(Protocol):
    """Tells that one more clip is done, and how many have failed so far."""

    def __call__(self, failed: int) -> None:
        """Take note of it."""


@contextmanager
def progress(total: int, say: Callable[[str], None]) -> Iterator[Advance]:
    """Show how many clips of `total` are done."""
    from rich.progress import TextColumn

    from model.progress import progress_bar, progress_console

    console = progress_console()
    started = noted = time.monotonic()
    done = 0

    def figures(failed: int) -> str:
        rate = done / max(time.monotonic() - started, 1e-9)
        return f"{rate:.3g} clips/s" + (f", {failed} failed" if failed else "")

    if not console.is_terminal:

        def note(failed: int) -> None:
            nonlocal done, noted
            done += 1
            if time.monotonic() - noted > NOTE_EVERY_S:
                noted = time.monotonic()
                say(f"{done} of {total}, {figures(failed)}")

        yield note
        return
    bar = progress_bar(console, TextColumn("{task.fields[figures]}"), transient=True)
    with bar:
        task = bar.add_task("clips", total=total, figures="")

        def advance(failed: int) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, figures=figures(failed))

        yield advance
