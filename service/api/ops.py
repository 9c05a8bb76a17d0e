"""What operators read: /metrics, and /docs with the OpenAPI document.

They stand beside the API, or on a port of their own (XCLIP_OPS_PORT) that clients cannot reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from service.api.middleware import RequestContext
from service.contract.errors import install_handlers
from service.lifecycle.service_state import Server
from service.transport.connection_limits import connections

DOCS_CSP = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"  # fmt: skip # noqa: E501
ASSETS = "/docs/assets"
CLOSE_TIMEOUT_S = 2


def add_ops(app: FastAPI, server: Server, document: Callable[[], dict[str, Any]]) -> None:
    """Add what the settings ask for; `document` gives the API's OpenAPI document.

    Beside the API /metrics asks for a key where there are keys; the document holds no secret.
    """
    own_port, router = server.settings.ops_port is not None, APIRouter(include_in_schema=False)
    if server.settings.metrics:

        @router.get("/metrics")
        async def metrics(request: Request) -> Response:
            if not own_port:
                await server.access.identify(request)
            return Response(server.metrics.render(), media_type=server.metrics.content_type)

    if server.settings.docs:
        _add_docs(router, document)
        assets = importlib.resources.files("fastapi_offline") / "static"
        app.mount(ASSETS, StaticFiles(directory=str(assets)), name="docs")
    app.include_router(router)


def _add_docs(router: APIRouter, document: Callable[[], dict[str, Any]]) -> None:
    """Swagger UI from files in the environment: no other host is asked for anything."""

    @router.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(document())

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="xclip-serve",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        )
        page.headers["Content-Security-Policy"] = DOCS_CSP
        return page


@contextlib.asynccontextmanager
async def ops_port(
    server: Server, listener: socket.socket, document: Callable[[], dict[str, Any]]
) -> AsyncIterator[None]:
    """Serve the ops pages on this listener for as long as the context is open."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install_handlers(app)
    add_ops(app, server, document)
    app.add_middleware(RequestContext, metrics=server.metrics, draining=lambda: False)
    config = uvicorn.Config(
        app,
        http=connections(server.settings),  # type: ignore[arg-type]  # a factory does
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
    )
    web = _SecondServer(config)
    serving = asyncio.create_task(web.serve(sockets=[listener]))
    try:
        yield
    finally:
        web.should_exit = True
        await serving


class _SecondServer(uvicorn.Server):
    """One that leaves the signals to the first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch none."""
        yield
