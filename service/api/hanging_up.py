"""Notice that a client hangs up while it is being answered, and end what is done for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.types import Receive

from service.contract.errors import ApiError

Result = TypeVar("Result")


async def hung_up(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(
    request: Request, work: Awaitable[Result], deadline: float | None = None
) -> Result:
    """Await work; cancel it when the client hangs up, or at a `time.monotonic()`.

    Raises:
        ApiError: `client_disconnected`, `deadline_passed`, or what the work raises.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request.receive))
    timeout_s = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ApiError("client_disconnected", "the client has hung up")
        raise ApiError(
            "deadline_passed", "the answer was not ready within the time limit", retry_after_s=5
        )
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
