"""What a proxy in front says of a request, where it is one that is named."""

from __future__ import annotations

import re
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

HEADER = b"x-forwarded-prefix"
PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)


class ForwardedHeaders(ProxyHeadersMiddleware):
    """ASGI middleware: uvicorn's for the client's address, and `X-Forwarded-Prefix`.

    The prefix becomes the `root_path` of the request, which is taken off its path where the proxy
    has left it there.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on as the client has sent it to the proxy."""
        if scope["type"] == "http" and (scope.get("client") or [None])[0] in self.trusted_hosts:
            scope["root_path"] = _prefix(scope["headers"]) or scope.get("root_path", "")
        await super().__call__(scope, receive, send)


def _prefix(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the prefix, empty without a good one; that of each proxy follows the one before."""
    values = b",".join(value for name, value in headers if name == HEADER).decode("latin-1")
    prefix = "".join(part.strip().rstrip("/") for part in values.split(","))
    return prefix if PREFIX.fullmatch(prefix) else ""
