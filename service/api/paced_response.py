"""A body that is sent as it is read, by a request that keeps its place until it is out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 64 << 10


class PacedResponse(Response):
    """Hand a body to the connection a piece at a time, each when the one before is on its way.

    So no more than two pieces of an answer lie in the connection, however slowly it is read.

    Args:
        content: The body.
        held: What is given back once the body is out or the client is gone.
        media_type: The type of the body.
        headers: Further headers.
    """

    def __init__(
        self,
        content: bytes,
        held: contextlib.ExitStack | None = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._held = held or contextlib.ExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self._held:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            body = self.body
            for first in range(0, len(body), PIECE_BYTES):
                piece = bytes(body[first : first + PIECE_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
