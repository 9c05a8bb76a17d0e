"""What costs little is answered a little later to a client who has just had much of it.

A refusal, a list or a page costs less than a clip, and yet a thousand of them a second, each
followed by the next request at once, take what others are served with: everybody's requests go
through one event loop, in many steps, and each step waits for all that came before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import traceback

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.client import client_of
from service.sharing.pace import Pace

LISTENS_BYTES = 64 << 10  # of a refused body, to notice a hang-up; what is larger stays unsent


class LaterAnswers:
    """ASGI middleware outside of all that may answer: an answer begins when it is its turn."""

    def __init__(self, app: ASGIApp, pace: Pace) -> None:
        self._app, self._pace = app, pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)

        async def send_in_turn(message: Message) -> None:
            if message["type"] == "http.response.start" and may_wait(request, message["status"]):
                await put_off(self._pace, request)
            await send(message)

        await self._app(scope, receive, send_in_turn)


def may_wait(request: Request, status: int) -> bool:
    """Tell whether an answer with this status is one that a pace is for.

    What has had a place among the requests being answered is bounded by that, and a balancer sends
    elsewhere what a server that stops does not take.
    """
    if getattr(request.state, "error_code", "") == "draining":
        return False
    refused = status == http.HTTPStatus.TOO_MANY_REQUESTS
    return refused or not getattr(request.state, "worked_for", False)


async def put_off(pace: Pace, request: Request) -> None:
    """Wait until a client is to hear the answer to its request, or it hangs up.

    Nothing is held meanwhile but its connection, which gives way like an idle one.

    Args:
        pace: Of all clients.
        request: Has given back what it held.
    """
    client = getattr(request.state, "client", None)
    if client is None:  # nobody has asked who it is
        client = client_of(request.client.host if request.client else None)
    wait_s = pace.wait_s(client)
    if not wait_s:
        return
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


def forget_frames(error: BaseException | None) -> None:
    """Give back what the frames of an error's traceback have in their variables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
