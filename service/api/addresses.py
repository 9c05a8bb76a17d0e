"""One address for what clients and proxies write differently, before anything is routed."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Addresses:
    """ASGI middleware: HEAD becomes GET, `/labels/` and `//labels` become `/labels`.

    Nothing is redirected, since the address in a redirect would have to be believed from the
    request (its Host), and behind a proxy the scheme is not known either.

    Args:
        root_path: What a proxy leaves in front of every path; empty where it strips its prefix.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app, self._root = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under its one address."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if self._root and path == self._root:
            # The page's relative addresses need the slash; this one is relative as well.
            slash = RedirectResponse(self._root.rpartition("/")[2] + "/", 308)
            await slash(scope, receive, send)
            return
        if path.startswith(self._root + "/"):
            path = path.removeprefix(self._root)
        # The protocol below keeps the scope as it came, and leaves out the body of what was HEAD.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._app({**scope, "path": "/" + path.strip("/"), "method": method}, receive, send)
