"""Request id, log line, metrics, security headers, and an answer in any case."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import answer_error
from service.contract.errors import ApiError
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracing, RequestSpan, Tracing

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET_ROUTES = ("/healthz", "/readyz", "/metrics")
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
}


class RequestContext:
    """ASGI middleware around every request; bodies pass through uncopied."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        draining: Callable[[], bool],
        tracing: Tracing | None = None,
    ) -> None:
        self._app, self._metrics, self._draining = app, metrics, draining
        self._tracing = tracing or NoTracing()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._draining)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        with self._tracing.request(
            scope["method"], Headers(scope=scope), exchange.request_id
        ) as span:
            await self._pass_on(scope, exchange, span)

    async def _pass_on(self, scope: Scope, exchange: _Exchange, span: RequestSpan) -> None:
        started = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the time for a stop has run out
            await exchange.fail(ApiError("draining", "the server has stopped", retry_after_s=1))
        except Exception as error:
            await exchange.fail(error)
        finally:
            self._record(scope, exchange.status, time.perf_counter() - started, span)

    def _record(self, scope: Scope, status: int, seconds: float, span: RequestSpan) -> None:
        route = getattr(scope.get("route"), "path", "other")
        code = scope["state"].get("error_code", "")
        self._metrics.requests.labels(route, str(status or "gone"), code).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        span.finish(route, status, code)
        log = structlog.get_logger("service")
        (log.debug if route in QUIET_ROUTES else log.info)(
            "request", route=route, status=status, code=code, ms=round(1000 * seconds, 1)
        )


class _Exchange:
    """One request and its response, observed as their messages pass."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, draining: Callable[[], bool]
    ) -> None:
        self._draining = draining
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.status = 0
        self._scope, self._receive, self._send = scope, receive, send
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._unread = has_body
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
            # The rest of a refused body is not read, so nothing can follow it; and before a stop
            # a client that keeps its connection would ask into a closing door.
            if self._unread or self._draining():
                headers["Connection"] = "close"
        await self._send(message)

    async def fail(self, error: BaseException) -> None:
        """Answer an error that nobody handled; cut off an answer that has begun."""
        if self.status:
            raise error
        response = answer_error(Request(self._scope), error)
        await response(self._scope, self.receive, self.send)
