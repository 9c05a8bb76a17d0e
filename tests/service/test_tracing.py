"""Traces: what a real collector receives of real requests, and nothing where nobody asked."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.telemetry.tracing import NoTracing, open_tracing
from tests.service.conftest import fake_runtime, running

STAGES = {"decode", "queue", "encode", "text", "score"}


class Collector(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        self.server.open.wait()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.server.resources.append(resource.resource)
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.spans, server.resources, server.open = [], [], threading.Event()
    server.open.set()
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}"
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def facts(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_and_its_stages_arrive_under_the_senders_span(
    collector: Any, clip: bytes
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with running(fake_runtime()) as server:
        answer = server.client.post(
            "/classify", files={"video": clip}, data={"labels": ["secret label", "b"]},
            headers={"traceparent": f"00-{trace}-{parent}-01", "X-Request-ID": "abc"},
        )  # fmt: skip
        assert answer.status_code == 200
        server.client.post("/classify", files={"video": b"no video"}, data={"labels": "a"})
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == trace}
    assert set(spans) == {"POST /classify"} | STAGES
    request = spans["POST /classify"]
    assert request.parent_span_id.hex() == parent
    assert facts(request) == {
        "http.request.method": "POST", "http.route": "/classify", "xclip.request_id": "abc",
        "http.response.status_code": 200,
    }  # fmt: skip
    for stage in STAGES:
        span = spans[stage]
        assert span.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    other = [s for s in collector.spans if s.name == "POST /classify" and s is not request]
    assert facts(other[0])["error.type"] == "not_a_video"
    assert not any("secret" in str(span) for span in collector.spans)
    names = {a.key: a.value.string_value for a in collector.resources[0].attributes}
    assert names["service.name"] == "xclip-serve"


def test_a_collector_that_hangs_costs_nobody_anything(
    collector: Any, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered while the sending of spans hangs: who waited for it would wait for ever."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    collector.open.clear()
    try:
        with running(fake_runtime()) as server:
            for _ in range(20):
                assert server.classify(clip, labels=["a"]).status_code == 200
            assert not collector.spans
            collector.open.set()
        assert collector.spans
    finally:
        collector.open.set()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_asked_for(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert isinstance(open_tracing(), NoTracing)
