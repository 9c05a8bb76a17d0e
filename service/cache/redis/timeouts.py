"""A time-out for what is asked of others, which does not count the time that we were blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

LATE_S = 0.01


async def within(seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """Await work with a time-out that is extended once if the event loop itself was blocked.

    Where the event loop came back late, the answer may lie in the socket unread: then the work gets
    the same time once more. So it takes at most 2 × `seconds` plus the time blocked.

    Raises TimeoutError when the work is not done in time, and cancels it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    try:
        for _ in range(2):
            due = loop.time() + seconds
            await asyncio.wait({task}, timeout=seconds)
            if task.done() or loop.time() - due < LATE_S:
                break
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            # Not waited for: closing an encrypted connection can wait for the other side.
            task.cancel()
            task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
