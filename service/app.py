"""Wire the application: settings in, ASGI app out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from export.runtime import Runtime
from service.api.addresses import Addresses
from service.api.later_answers import LaterAnswers
from service.api.middleware import RequestContext
from service.api.openapi import DESCRIPTION, TAGS, use_document
from service.api.ops import add_ops
from service.api.problems import install_handlers
from service.api.routes import make_routes
from service.lifecycle.hot_reload import Reloader
from service.lifecycle.service_state import ServiceState
from service.settings import Settings
from service.transport.ops_port import ops_port

PAGE = Path(__file__).parent / "page"


def create_app(
    settings: Settings,
    runtime: Runtime | None = None,
    ops_listener: socket.socket | None = None,
) -> FastAPI:
    """Make the ASGI app; loading the bundle begins in the background, with its lifespan.

    Args:
        settings: All of the server's.
        runtime: Runs the graphs in place of the bundle's own runtime, in tests.
        ops_listener: Where /metrics and /docs are served instead of beside the API.

    Returns:
        The app. `app.state.server` is its ServiceState, `app.state.reloader` its Reloader.
    """
    server = ServiceState(settings, runtime)
    reloader = Reloader(server)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if ops_listener is not None:
                await stack.enter_async_context(ops_port(server, ops_listener, app.openapi))
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
        version=_version(),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.server, app.state.reloader = server, reloader
    install_handlers(app)
    app.include_router(make_routes(server))
    use_document(app)
    _add_page(app)
    if ops_listener is None:
        add_ops(app, server, app.openapi)
    app.add_middleware(
        RequestContext,
        metrics=server.metrics,
        draining=lambda: server.admission.draining,
        tracing=server.tracing,
    )
    app.add_middleware(Addresses, root_path=settings.root_path)
    if settings.cors_origins:
        # Outside of everything that may refuse, so that a page can read the refusal. Any header:
        # what traces requests in a browser adds its own, and none of them opens anything.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(LaterAnswers, pace=server.pace)
    return app


def _version() -> str:
    """Return the version that pyproject.toml gives, as it was installed."""
    try:
        return importlib.metadata.version("xclip-serve")
    except importlib.metadata.PackageNotFoundError:  # a checkout that nobody has installed
        return "0"


def _add_page(app: FastAPI) -> None:
    """Serve the page for people at the root."""
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")
