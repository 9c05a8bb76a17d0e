"""Traces by OpenTelemetry: a span for each request, one within it for each stage.

On where the standard variables ask for it (OTEL_EXPORTER_OTLP_ENDPOINT, or
OTEL_TRACES_EXPORTER=console)
and the extra `tracing` is installed; they also choose name, sampling, headers and time-outs. Spans
are sent by a thread of the library, so a collector that is away costs no request anything.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

SERVICE_NAME = "xclip-serve"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
QUIET_STATUS = 500  # below it an answer is no failure of ours


class RequestSpan(Protocol):
    """The span of one request."""

    def finish(self, route: str, status: int, code: str) -> None:
        """Say what became of it."""


class Tracing(Protocol):
    """What the server tells of its work."""

    def request(
        self, method: str, headers: Mapping[str, str], request_id: str
    ) -> contextlib.AbstractContextManager[RequestSpan]:
        """Open the span of a request, under that of its sender where the headers name one."""

    def stage(self, name: str, seconds: float) -> None:
        """Note that a stage of the request being answered has just ended."""

    def close(self) -> None:
        """Send what is left; may take seconds."""


class NoTracing:
    """Tells nobody."""

    @contextlib.contextmanager
    def request(
        self, method: str, headers: Mapping[str, str], request_id: str
    ) -> Iterator[RequestSpan]:
        """Open no span."""
        yield self

    def finish(self, route: str, status: int, code: str) -> None:
        """Say nothing."""

    def stage(self, name: str, seconds: float) -> None:
        """Open no span."""

    def close(self) -> None:
        """Send nothing: nothing is left."""


class OpenTelemetry:
    """Spans through the SDK, to one exporter."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.propagate import get_global_textmap
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME", SERVICE_NAME)
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE_NAME)
        self._propagator = get_global_textmap()

    @contextlib.contextmanager
    def request(
        self, method: str, headers: Mapping[str, str], request_id: str
    ) -> Iterator[RequestSpan]:
        """Open a server span, the current one for the length of the block."""
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "xclip.request_id": request_id},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _Span(span, method)

    def stage(self, name: str, seconds: float) -> None:
        """Record a span that ends now, under the current one."""
        end = time.time_ns()
        span = self._tracer.start_span(name, start_time=end - int(seconds * 1e9))
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class _Span:
    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    def finish(self, route: str, status: int, code: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if code:
            self._span.set_attribute("error.type", code)
        if status >= QUIET_STATUS:
            self._span.set_status(StatusCode.ERROR)


def open_tracing() -> Tracing:
    """Make what the environment asks for."""
    environment = os.environ
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    asked = any(environment.get(name) for name in ENDPOINTS) or exporter in ("otlp", "console")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not asked or disabled or exporter == "none":
        return NoTracing()
    try:
        return OpenTelemetry(_exporter(exporter))
    except ImportError:
        structlog.get_logger("service").warning(
            "no traces: OTEL_ variables are set, but xclip-serve[tracing] is not installed"
        )
        return NoTracing()


def _exporter(kind: str) -> SpanExporter:
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
