"""Work that may never end, in threads that nothing waits for.

A file system may stop to answer in the middle of a read (a network share whose server is gone), a
library may build for minutes: neither can be interrupted. Whoever waits for it may give up, and the
process may end all the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")
NAME = "detached"


async def run_detached(
    call: Callable[[], Result], close: Callable[[Result], object] | None = None
) -> Result:
    """Return what the call returns, or raise what it raises; it runs in a thread of its own.

    Args:
        call: What may never return.
        close: Gets the result if it comes after whoever waited has been cancelled.
    """
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name=NAME, daemon=True).start()
    try:
        return await asyncio.wrap_future(outcome)
    except asyncio.CancelledError:
        if close is not None:
            outcome.add_done_callback(
                lambda done: None if done.exception() else close(done.result())
            )
        raise


def still_running() -> bool:
    """Tell whether work goes on for which nobody waits: Python's own exit would wait for it."""
    return any(thread.name == NAME for thread in threading.enumerate())
