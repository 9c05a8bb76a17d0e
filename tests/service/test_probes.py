"""How the server says how it is, and to whom it says more."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import cast

import httpx
import pytest

from export.bundle import LabelSet
from service.access import admission
from service.api import routes
from service.transport import open_connections
from service.transport.http_parser import RequestParser
from tests.service.conftest import fake_runtime, running, until

UPLOAD = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 100000\r\n\r\n--b\r\n"
)
A, B, IDLE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def test_probes_have_the_operators_port_and_strangers_hear_the_status() -> None:
    with running(fake_runtime(), ops_port=0) as server:
        assert server.ops_listener is not None
        ops = f"http://127.0.0.1:{server.ops_listener.getsockname()[1]}"
        assert httpx.get(f"{ops}/healthz", timeout=None).json() == {"status": "ok"}
        assert "sandbox" in httpx.get(f"{ops}/readyz", timeout=None).json()
        assert server.client.get("/readyz").json() == {"status": "ready"}
        assert server.client.get("/healthz").json() == {"status": "ok"}


def test_not_ready_while_every_place_is_taken_and_none_comes_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "STUCK_AFTER_S", 0.0)
    with running(fake_runtime(), max_in_flight=1) as server:
        with server.server.admission.work("somebody"):
            answer = server.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["code"] == "not_ready"
        assert server.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "sources", [(A, A, B, B), (IDLE, A, A, B)], ids=["all at work", "one idle"]
)
def test_not_ready_while_no_connection_gives_way_and_none_comes_free(
    monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...]
) -> None:
    monkeypatch.setattr(open_connections, "STUCK_AFTER_S", 0.0)
    with (
        running(fake_runtime(), max_connections=4, ops_port=0) as server,
        contextlib.ExitStack() as attackers,
    ):
        assert server.ops_listener is not None
        ops = f"http://127.0.0.1:{server.ops_listener.getsockname()[1]}"

        def status() -> int:
            return httpx.get(f"{ops}/readyz", timeout=None).status_code

        def connected(source: str) -> socket.socket:
            one = socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0))
            return attackers.enter_context(one)

        # One that is idle is no room for others while somebody else has more.
        for source in sources:
            assert status() == 200
            connected(source).sendall(UPLOAD if source != IDLE else b"")
        until(lambda: status() == 503)
        attackers.close()
        until(lambda: status() == 200)


def test_a_stored_list_is_sent_once() -> None:
    with running(fake_runtime()) as server:
        name = server.client.get("/labels").json()[0]["name"]
        first = server.client.get(f"/labels/{name}")
        assert first.json()["name"] == name
        tag = {"If-None-Match": first.headers["etag"]}
        again = server.client.get(f"/labels/{name}", headers=tag)
        assert (again.status_code, again.content) == (304, b"")


def test_a_stored_list_is_written_once_for_all_who_ask_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of 100,000 labels takes 15 MB, and each answer would have its own."""
    written, may_end = 0, threading.Event()

    def write(name: str, stored: LabelSet) -> bytes:
        nonlocal written
        written += 1
        may_end.wait()
        return b"{}"

    monkeypatch.setattr(routes, "_written", write)
    with running(fake_runtime()) as server, contextlib.ExitStack() as stack:
        name = server.client.get("/labels").json()[0]["name"]
        ask = f"GET /labels/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        asking = []
        for _ in range(4):
            asking.append(socket.create_connection(("127.0.0.1", server.port)))
            stack.enter_context(asking[-1]).sendall(ask)

        def busy() -> int:
            connections = server.web.server_state.connections.copy()
            return sum(cast(RequestParser, connection).busy for connection in connections)

        until(lambda: busy() == len(asking))
        may_end.set()
        for connection in asking:
            assert connection.makefile("rb").read().endswith(b"\r\n\r\n{}")
        assert written == 1
