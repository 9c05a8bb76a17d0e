"""Routes for operators: /metrics, and /docs with the OpenAPI document.

They stand beside the API, or on a port of their own (XCLIP_OPS_PORT) that clients cannot reach.
"""

from __future__ import annotations

import asyncio
import importlib.resources
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from service.api.addresses import way_to_root
from service.api.openapi import document_for, written
from service.api.paced_response import PacedResponse
from service.contract.served import Alive, ReadyState
from service.lifecycle.service_state import ServiceState

DOCS_CSP = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"  # fmt: skip # noqa: E501
ASSETS = "docs/assets"  # relative, as all addresses here: a proxy may put a prefix before them


def add_ops(app: FastAPI, server: ServiceState, document: Callable[[], dict[str, Any]]) -> None:
    """Add the routes that the settings ask for; `document` gives the API's OpenAPI document.

    Beside the API /metrics asks for a key where there are keys; the document holds no secret.
    """
    own_port, router = server.settings.ops_port is not None, APIRouter(include_in_schema=False)
    if own_port:
        _add_health(router, server)
    if server.settings.metrics:
        one_at_a_time = asyncio.Lock()

        @router.get("/metrics")
        async def metrics(request: Request) -> Response:
            if not own_port:
                await server.access.identify(request)
            async with one_at_a_time:  # it takes milliseconds: others go in between
                await asyncio.sleep(0)
                text = server.metrics.render()
            return Response(text, media_type=server.metrics.content_type)

    if server.settings.docs:
        _add_docs(router, document)
        assets = importlib.resources.files("fastapi_offline") / "static"
        app.mount(f"/{ASSETS}", StaticFiles(directory=str(assets)), name="docs")
    app.include_router(router)


def _add_health(router: APIRouter, server: ServiceState) -> None:
    """Answer probes where no client of the API can take their connections."""

    @router.get("/healthz")
    async def healthz() -> Alive:
        return Alive()

    @router.get("/readyz")
    async def readyz() -> ReadyState:
        return await server.check()


def _add_docs(router: APIRouter, document: Callable[[], dict[str, Any]]) -> None:
    """Serve Swagger UI from files in the environment: no other host is asked for anything."""

    once = cache(lambda: written(document()))

    @lru_cache(maxsize=4)  # by how deep the address lies; not a copy for each answer that waits
    def below(root: str) -> bytes:
        return document_for(root, once())

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return PacedResponse(below(way_to_root(request.scope)))

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        root = way_to_root(request.scope)
        page = get_swagger_ui_html(
            openapi_url=f"{root}openapi.json",
            title="xclip-serve",
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
        )
        page.headers["Content-Security-Policy"] = DOCS_CSP
        return page
