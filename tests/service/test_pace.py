"""Who asks for little again and again hears it a little later; everybody else at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
from fastapi import Request

from service.api.later_answers import LISTENS_BYTES
from service.api.later_answers import put_off as put_off_until
from service.contract.request import Question
from service.lifecycle import service_state
from service.sharing import pace as pace_module
from service.sharing.pace import Pace
from service.transport.http_parser import RequestParser
from tests.service.conftest import (
    RunningServer,
    clip_bytes,
    fake_runtime,
    multipart,
    running,
    until,
)

BUSY, GOOD = "127.0.0.2", "127.0.0.3"
ASK = multipart(clip_bytes(), "a cat").replace(b"Host: x", b"Host: x\r\nConnection: close", 1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- the pace ----------------------------------------------------------------------------------


def test_the_first_come_at_once_and_the_others_at_even_distances() -> None:
    pace = Pace(8, 3600, Clock())
    waits = [pace.wait_s("a") for _ in range(24)]
    assert waits[:8] == [0.0] * 8
    assert {later - earlier for earlier, later in pairwise(waits[7:])} == {1 / 8}
    assert pace.wait_s("b") == 0.0


def test_nobody_waits_longer_than_the_longest() -> None:
    clock = Clock()
    pace = Pace(8, 2, clock)
    assert max(pace.wait_s("a") for _ in range(1000)) == 2
    clock.now += 1
    assert pace.wait_s("a") == 1 + 1 / 8  # those that were put off have had no further turns


def test_who_asks_no_more_than_so_often_never_waits() -> None:
    clock = Clock()
    pace = Pace(8, 3600, clock)
    for _ in range(100):
        assert pace.wait_s("a") == 0.0
        clock.now += 1 / 8
    clock.now += 1
    assert [pace.wait_s("a") for _ in range(8)] == [0.0] * 8


def test_no_more_clients_are_remembered_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "MOST_CLIENTS", 3)
    pace = Pace(1, 3600, Clock())
    for client in "aabbccdda":
        pace.wait_s(client)
    assert len(pace) == 3
    assert pace.wait_s("d") > 0, "who had a turn last is known longest"


# --- on a server -------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server that is full, and has refused one address so often that the next waits an hour."""
    monkeypatch.setattr(service_state, "BRIEF_ANSWERS_PER_S", 1)
    monkeypatch.setattr(service_state, "ANSWERED_WITHIN_S", 3600.0)
    settings: dict[str, Any] = {"max_in_flight": 1, "max_connections": 8}
    with running(fake_runtime(), **settings) as started, started.server.admission.work("somebody"):
        while started.server.pace.wait_s(BUSY) < 3599:
            pass
        yield started


@contextlib.contextmanager
def asking(server: RunningServer, address: str, data: bytes = ASK) -> Iterator[socket.socket]:
    with socket.create_connection(
        ("127.0.0.1", server.port), source_address=(address, 0)
    ) as connection:
        connection.sendall(data)
        yield connection


def put_off(server: RunningServer) -> int:
    """How many answers wait."""
    connections = cast(set[RequestParser], server.web.server_state.connections.copy())
    return sum(connection.put_off for connection in connections)


def heard(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def test_a_refusal_waits_for_its_turn_and_nobody_else_does(server: RunningServer) -> None:
    with asking(server, BUSY):
        until(lambda: put_off(server) == 1)
        with asking(server, GOOD) as good:
            head, _, body = heard(good).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in head.lower()
        assert json.loads(body)["code"] == "queue_full"
        admission = server.server.admission
        assert (admission.uploading, admission.answering) == (0, 1)
    until(lambda: not server.web.server_state.connections)  # hung up, an hour before its turn


def test_a_turn_that_comes(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.server.pace, "_longest_s", 0.01)
    with asking(server, BUSY) as connection:
        assert b'"queue_full"' in heard(connection)


@pytest.mark.parametrize("path", ["/timeline", "/videos", "/embeddings"])
def test_at_every_address(server: RunningServer, path: str) -> None:
    form = multipart(clip_bytes()).replace(b"/classify", path.encode(), 1)
    with asking(server, BUSY, form):
        until(lambda: put_off(server) == 1)


@pytest.mark.parametrize(
    "head",
    [
        "GET /model",
        "GET /labels",
        "GET /labels/nix",
        "GET /",
        "GET /page/nix.js",
        "GET /healthz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /nix",
        "GET /classify",
        "DELETE /videos/" + 32 * "0",
        "POST /classify",
    ],
)
def test_an_answer_that_costs_little_waits_for_its_turn_too(
    server: RunningServer, head: str
) -> None:
    data = f"{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    with asking(server, BUSY, data):
        until(lambda: put_off(server) == 1)
        with asking(server, GOOD, data) as good:
            assert heard(good).startswith(b"HTTP/1.1 ")


def test_what_a_page_of_another_origin_asks_first_waits_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_state, "BRIEF_ANSWERS_PER_S", 1)
    monkeypatch.setattr(service_state, "ANSWERED_WITHIN_S", 3600.0)
    page = "https://page.example"
    ask = (
        f"OPTIONS /classify HTTP/1.1\r\nHost: x\r\nOrigin: {page}\r\n"
        "Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
    ).encode()
    with running(fake_runtime(), cors_origins=page) as server:
        while server.server.pace.wait_s(BUSY) < 3599:
            pass
        with asking(server, BUSY, ask), asking(server, GOOD, ask) as good:
            until(lambda: put_off(server) == 1)
            assert heard(good).startswith(b"HTTP/1.1 200 ")


def test_what_cannot_be_done_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked a thousand times a second it takes from others what they are served with, too."""
    monkeypatch.setattr(service_state, "BRIEF_ANSWERS_PER_S", 1)
    monkeypatch.setattr(service_state, "ANSWERED_WITHIN_S", 3600.0)
    head = b"DELETE /videos/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (32 * b"0")
    with running(fake_runtime(), redis_url="redis://127.0.0.1:1") as server:
        while server.server.pace.wait_s(BUSY) < 3599:
            pass
        with asking(server, BUSY, head):
            until(lambda: put_off(server) == 1)
            with asking(server, GOOD, head) as good:
                assert heard(good).startswith(b"HTTP/1.1 503 ")


def test_a_server_that_stops_says_so_at_once(server: RunningServer) -> None:
    server.server.admission.draining = True
    with asking(server, BUSY) as connection:
        assert b'"draining"' in heard(connection)


def test_what_was_worked_for_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_state, "BRIEF_ANSWERS_PER_S", 1)
    monkeypatch.setattr(service_state, "ANSWERED_WITHIN_S", 3600.0)
    with running(fake_runtime()) as server:
        while server.server.pace.wait_s(BUSY) < 3599:
            pass
        no_clip = multipart(b"no clip", "a cat").replace(
            b"Host: x", b"Host: x\r\nConnection: close"
        )
        for form, status in ((ASK, 200), (no_clip, 415)):
            with asking(server, BUSY, form) as connection:
                assert heard(connection).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("data", [ASK, 2 * multipart(clip_bytes(), "a cat")], ids=["one", "two"])
def test_what_waits_gives_way_and_is_told(server: RunningServer, data: bytes) -> None:
    """Also where the client has sent the next request behind it."""
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(4):  # half of the eight
            connections.append(stack.enter_context(asking(server, BUSY, data)))
            until(lambda n=number: put_off(server) == n + 1)  # type: ignore[misc]
        stack.enter_context(asking(server, BUSY))
        answer = heard(connections[0])
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after" in answer.lower()
        until(lambda: put_off(server) == 4)


def test_little_of_a_body_is_read_while_its_refusal_waits() -> None:
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        if taken == 100:
            return {"type": "http.disconnect"}
        taken += 1
        return {"type": "http.request", "body": bytes(1 << 14), "more_body": True}

    async def scenario() -> None:
        scope = {"type": "http", "headers": [], "state": {"client": BUSY}}
        request, pace = Request(scope, receive), Pace(1, 3600, Clock())
        while pace.wait_s(BUSY) < 3599:
            pass
        waiting = asyncio.create_task(put_off_until(pace, request))
        while not request.state._state.get("put_off"):
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert taken == LISTENS_BYTES >> 14
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(scenario())


def test_nobody_is_told_to_send_a_body_that_is_refused(server: RunningServer) -> None:
    expects = ASK.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue", 1)
    with asking(server, BUSY, expects.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") as connection:
        until(lambda: put_off(server) == 1)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_nothing_of_a_question_is_kept_while_its_refusal_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_state, "BRIEF_ANSWERS_PER_S", 1)
    monkeypatch.setattr(service_state, "ANSWERED_WITHIN_S", 3600.0)
    labels = tuple(f"a label that is refused, {n}" for n in range(100))
    with running(fake_runtime(), max_question_bytes=4096) as server:
        while server.server.pace.wait_s(BUSY) < 3599:
            pass
        with (
            server.server.admission.question("somebody", 1 << 20),
            asking(server, BUSY, multipart(clip_bytes(), json.dumps(labels))),
        ):
            until(lambda: put_off(server) == 1)
            until(lambda: not any(_asks(one, labels) for one in gc.get_objects()))


def _asks(something: object, labels: tuple[str, ...]) -> bool:
    return isinstance(something, Question) and something.labels == labels
