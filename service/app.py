"""The application, wired by hand: settings in, ASGI app out."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

from export.runtime import Runtime
from service.errors import install_handlers
from service.middleware import RequestContext
from service.reload import Reloader
from service.routes import make_routes
from service.server import Server
from service.settings import Settings

VERSION = "0.1.0"
PAGE = Path(__file__).parent / "page"
DOCS_CSP = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"  # fmt: skip # noqa: E501


def create_app(settings: Settings, runtime: Runtime | None = None) -> FastAPI:
    """The app for these settings; `runtime` stands for the bundle's own in tests.

    `app.state.server` is its Server. Loading begins with the app's lifespan, in the background.
    """
    server = Server(settings, runtime)
    reloader = Reloader(server)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.begin()
        reloader.listen()
        try:
            yield
        finally:
            await reloader.stop()
            await server.stop()

    app = FastAPI(
        title="xclip-serve",
        summary="Open-vocabulary video classification: a clip and labels in, ranked labels out.",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
    )
    app.state.server, app.state.reloader = server, reloader
    install_handlers(app)
    app.include_router(make_routes(server))
    _add_page(app)
    if settings.docs:
        _add_docs(app)
    app.add_middleware(
        RequestContext, metrics=server.metrics, draining=lambda: server.admission.draining
    )
    return app


def _add_page(app: FastAPI) -> None:
    """The page for people, at the root."""
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")


def _add_docs(app: FastAPI) -> None:
    """Swagger UI from files in the environment: no other host is asked for anything."""
    assets = importlib.resources.files("fastapi_offline") / "static"
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), name="docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="xclip-serve",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )
        page.headers["Content-Security-Policy"] = DOCS_CSP
        return page
