"""One address for what clients and proxies write differently, before anything is routed."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

VERSION = "v1"  # of the contract: the document names every address below it, bare ones are aliases


class Addresses:
    """ASGI middleware: HEAD becomes GET, `/v1/labels`, `/labels/` and `//labels` become `/labels`.

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
        # What a proxy says itself (service.transport.forwarded) counts before what is configured.
        for root in filter(None, (scope.get("root_path", ""), self._root)):
            if path == root:
                # The page's relative addresses need the slash; this one is relative as well.
                slash = RedirectResponse(root.rpartition("/")[2] + "/", 308)
                await slash(scope, receive, send)
                return
            if path.startswith(root + "/"):
                path = path.removeprefix(root)
                break
        # The one of the protocol below, which looks there whether an answer is put off.
        state = scope.setdefault("state", {})
        state["depth"] = path.count("/") - 1
        # The protocol below keeps the scope as it came, and leaves out the body of what was HEAD.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        route = {"path": _unversioned(path), "root_path": "", "method": method}
        await self._app({**scope, **route}, receive, send)


def way_to_root(scope: Scope) -> str:
    """Return what a link begins with that leads from the address asked for to the root."""
    return "../" * scope["state"]["depth"] or "./"


def _unversioned(path: str) -> str:
    path = path.strip("/")
    return "/" + path.removeprefix(f"{VERSION}/").strip("/")
