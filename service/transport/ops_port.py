"""A second listener for what operators read, which clients of the API cannot reach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.api.addresses import Addresses
from service.api.middleware import RequestContext
from service.api.ops import add_ops
from service.api.problems import install_handlers
from service.lifecycle.service_state import ServiceState
from service.transport.connection_limits import connections, open_connections

CLOSE_TIMEOUT_S = 2


@contextlib.asynccontextmanager
async def ops_port(
    server: ServiceState, listener: socket.socket, document: Callable[[], dict[str, Any]]
) -> AsyncIterator[None]:
    """Serve the ops pages on this listener for as long as the context is open."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install_handlers(app)
    add_ops(app, server, document)
    app.add_middleware(RequestContext, metrics=server.metrics, draining=lambda: False)
    app.add_middleware(Addresses)
    config = uvicorn.Config(
        app,
        http=connections(server.settings, open_connections(server.settings)),  # type: ignore[arg-type]  # a factory does
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
    """A server that leaves the signals to the first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch none."""
        yield
