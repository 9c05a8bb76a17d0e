"""Graceful shutdown: finish what was accepted, refuse what is new, then close.

On SIGTERM or Ctrl-C the server goes on listening and answers new requests with 503 `draining`,
which a load balancer sends elsewhere; readiness says the same. It closes once nothing is in flight
or the time is up. A second signal closes at once. Whatever does not let it close then, such as a
network that never answers, is left behind.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn, cast

import structlog
import uvicorn
from fastapi import FastAPI

from service.lifecycle.service_state import ServiceState
from service.settings import Settings
from service.transport.connection_limits import connections, open_connections
from service.transport.forwarded import ForwardedHeaders

LOOK_EVERY_S = 0.02
# The event loop accepts one connection of a listener in each of its rounds, which are long where
# much comes in: so it has the listener several times.
ACCEPTED_AT_ONCE = 16
CLOSE_TIMEOUT_S = 2  # for connections without a request
LEAVE_AFTER_S = 30.0  # for all that is closed after that


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which alone would stop listening before load balancers notice."""

    def __init__(self, config: uvicorn.Config, server: ServiceState, grace_s: float) -> None:
        super().__init__(config)
        config.timeout_graceful_shutdown = CLOSE_TIMEOUT_S
        self._server, self._grace_s = server, grace_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and keep the event loop for the signal handler."""
        self._loop = asyncio.get_running_loop()
        several = [one.dup() for one in sockets or () for _ in range(ACCEPTED_AT_ONCE)]
        await super().startup(several or None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal, stop at the second."""
        if self._loop is None or self._server.admission.draining:
            _leave_in(LEAVE_AFTER_S)
            super().handle_exit(sig, frame)
            return
        _leave_in(self._grace_s + LEAVE_AFTER_S)
        self._server.admission.draining = True
        self._loop.call_soon_threadsafe(self._drain, sig, frame)

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._draining = asyncio.ensure_future(self._until_done(sig, frame))

    async def _until_done(self, sig: int, frame: FrameType | None) -> None:
        started, admission = time.monotonic(), self._server.admission
        log = structlog.get_logger("service")
        log.info("draining", in_flight=admission.in_flight)
        while admission.in_flight and time.monotonic() - started < self._grace_s:
            await asyncio.sleep(LOOK_EVERY_S)
        log.info("drained", left=admission.in_flight)
        super().handle_exit(sig, frame)


def _leave_in(seconds: float) -> None:
    """End the process in so many seconds, if it is still there."""
    timer = threading.Timer(seconds, leave, (1, "it did not stop in time: left as it was"))
    timer.daemon = True
    timer.start()


def leave(status: int, why: str = "") -> NoReturn:
    """End the process at once, whatever its threads do."""
    if why:
        print(f"service: {why}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def http_server(app: FastAPI, settings: Settings) -> DrainingServer:
    """Make the HTTP server around the application, with its bounds on connections."""
    counted, server = open_connections(settings), app.state.server
    server.unreachable = lambda: counted.stuck
    config = uvicorn.Config(
        ForwardedHeaders(cast(Any, app), settings.trusted_proxies),
        http=connections(settings, counted),  # type: ignore[arg-type]  # a factory does
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        proxy_headers=False,  # ours are around the application
    )
    return DrainingServer(config, server, settings.shutdown_grace_s)
