"""Refusals of a client who has just had many are answered a little later.

To refuse costs less than to answer, and yet a thousand refusals a second, each followed by the next
request at once, take what others are served with.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback

from fastapi import Request

from service.sharing.pace import Pace

LISTENS_BYTES = 64 << 10  # of a refused body, to notice a hang-up; what is larger stays unsent


async def put_off(pace: Pace, request: Request, refusal: BaseException) -> None:
    """Wait until a client is to hear that its request is refused, or it hangs up.

    Nothing is held meanwhile but its connection, which gives way like an idle one.

    Args:
        pace: Of all clients.
        request: Has given back what it held.
        refusal: Gives back the rest: what the frames of its traceback have in their variables.
    """
    client = getattr(request.state, "client", None)
    wait_s = pace.wait_s(client) if client is not None else 0.0
    if not wait_s:
        return
    _forget_frames(refusal)
    request.state.put_off = True
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await _seen_to_hang_up(request)
    finally:
        request.state.put_off = False


async def _seen_to_hang_up(request: Request) -> None:
    """Return when the client hangs up, as long as that can be seen without reading much."""
    listens = LISTENS_BYTES
    # Who asks whether to send its body at all would be told to.
    while listens > 0 and "expect" not in request.headers:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
        listens -= len(message.get("body", b""))
    await asyncio.Event().wait()


def _forget_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
