"""One address asks for all that there is; another one's requests are answered as ever.

Attackers come from 127.0.0.2, the good client from 127.0.0.3.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest

from service.access import admission as admission_module
from service.access.admission import Admission
from service.api import body as body_module
from service.transport import connection_limits
from service.transport.http_parser import RequestParser
from service.transport.open_connections import RESERVE, OpenConnections
from tests.service.conftest import (
    RunningServer,
    clip_bytes,
    fake_runtime,
    long_gop,
    running,
    until,
)
from tests.service.hostile.load import request

ATTACKER, GOOD = "127.0.0.2", "127.0.0.3"
GOOD_REQUESTS = 4
HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Connection: close\r\nContent-Length: 100000\r\n\r\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(
        fake_runtime(), max_in_flight=8, max_uploads=8, max_connections=40, decode_workers=2
    ) as started:
        yield started


@contextlib.contextmanager
def attackers(
    server: RunningServer, count: int, data: bytes, address: str = ATTACKER
) -> Iterator[list[socket.socket]]:
    """So many connections of one address that have sent this, and have not read a byte."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = socket.create_connection(
                ("127.0.0.1", server.port), source_address=(address, 0)
            )
            connections.append(stack.enter_context(connection))
            with contextlib.suppress(ConnectionError):  # refused before all was sent
                connection.sendall(data)
        yield connections


def good_answers(server: RunningServer) -> list[int]:
    """The statuses of one client's requests, one after the other, each of another clip."""
    transport = httpx.HTTPTransport(local_address=GOOD)
    with httpx.Client(base_url=server.base_url, transport=transport, timeout=None) as client:
        statuses = []
        for shade in range(GOOD_REQUESTS):
            files = {"video": ("clip", clip_bytes(shade))}
            answer = client.post("/classify", files=files, data={"labels": ["a cat", "a dog"]})
            statuses.append(answer.status_code)
            assert client.get("/healthz").status_code == 200
        return statuses


def answer_of(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def form_of(fields: list[tuple[str, str]]) -> bytes:
    """A request of text fields, which may be repeated."""
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    )
    content = body.encode() + b"--b--\r\n"
    return HEAD.replace(b"100000", b"%d" % len(content)) + content


def classified(server: RunningServer) -> float:
    """How many requests have ended, however they did."""
    lines = server.client.get("/metrics").text.splitlines()
    ended = [line for line in lines if line.startswith("xclip_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in ended if 'route="/classify"' in line)


def admission_of(server: RunningServer) -> Admission:
    return server.server.admission


ANSWERED = [200] * GOOD_REQUESTS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is slow is left alone, however slow the machine is; a test of that sets its own time."""
    monkeypatch.setattr(body_module, "SEND_WITHIN_S", 3600.0)
    monkeypatch.setattr(connection_limits, "READ_WITHIN_S", 3600.0)


FORMS = {
    "labels times templates": (
        [("labels", json.dumps([f"{n}" for n in range(10_000)]))]
        + [("template", "é" * 250 + f"{n} {{}}") for n in range(16)],
        b"too_many_labels",
    ),
    "long labels": (
        [
            (
                "labels",
                json.dumps(
                    [f"\U0001f600{n} " + "ü" * 250 for n in range(5_000)], ensure_ascii=False
                ),
            ),
            *[("template", f"{n} \U0001f600 {{}}") for n in range(3)],
        ],
        b"too_many_labels",
    ),
    "labels too long for the network": (
        [("labels", json.dumps([chr(0xAC00 + n) * 298 for n in range(200)]))],
        b"label_too_long",
    ),
}


@pytest.mark.parametrize("kind", FORMS)
def test_forms_of_labels(server: RunningServer, kind: str) -> None:
    fields, code = FORMS[kind]
    known = server.classify(clip_bytes(), labels=["a"]).json()["video_id"]
    form = form_of([*fields, ("video_id", known)])
    with attackers(server, 6, form):
        pass  # hung up at once
    with attackers(server, 2, form):
        assert good_answers(server) == ANSWERED
    until(lambda: admission_of(server).in_flight == 0)
    with attackers(server, 1, form) as connections:
        assert code in answer_of(connections[0])


def test_forms_of_many_parts(server: RunningServer) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n\r\n'
    body = part * 10_060 + b"--b--\r\n"
    form = HEAD.replace(b"100000", b"%d" % len(body)) + body
    with attackers(server, 10, form) as connections:
        assert good_answers(server) == ANSWERED
        assert b"too_many_parts" in answer_of(connections[0])


def test_clips_that_take_long(server: RunningServer, tmp_path: Path) -> None:
    clip, pool = long_gop(tmp_path / "slow.mp4"), server.server.engine.pool
    fields = {"labels": '["a"]', "start": "59", "frame_rule": "exact"}
    with contextlib.ExitStack() as stack:
        for end in range(10):
            dear = request(clip, fields | {"end": f"{60 + end}"})
            stack.enter_context(attackers(server, 1, dear))
        until(lambda: pool.running >= 2)
        assert admission_of(server).answering <= server.settings.max_in_flight // 2 + 1
        assert good_answers(server) == ANSWERED
    until(lambda: admission_of(server).in_flight == 0)


def test_idle_connections(server: RunningServer) -> None:
    with attackers(server, 60, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert good_answers(server) == ANSWERED
        with attackers(server, 60, b""):
            assert good_answers(server) == ANSWERED


def test_slow_uploads(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with attackers(server, 20, HEAD + b"--b\r\n"):
        until(lambda: admission_of(server).uploading == 4)
        assert good_answers(server) == ANSWERED
        assert admission_of(server).uploading >= 4
    until(lambda: admission_of(server).uploading == 0)
    monkeypatch.setattr(body_module, "SEND_WITHIN_S", 0)
    monkeypatch.setattr(body_module, "LEAST_BYTES_PER_S", 1e9)
    with attackers(server, 1, HEAD + b"--b\r\n") as connections:
        assert b"upload_timeout" in answer_of(connections[0])


def test_uploads_of_three_addresses_that_take_every_place(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No share is used up, and no place is free: the slowest give way to who has none."""
    monkeypatch.setattr(admission_module, "GIVES_WAY_AFTER_S", 0)
    with contextlib.ExitStack() as stack:
        for number, address in enumerate(("127.0.0.4", "127.0.0.5", "127.0.0.6"), start=1):
            stack.enter_context(attackers(server, 4, HEAD + b"--b\r\n", address))
            until(lambda taken=4 + 2 * (number - 1): admission_of(server).uploading == taken)  # type: ignore[misc]
        assert admission_of(server).uploading == server.settings.max_uploads
        assert good_answers(server) == ANSWERED
    until(lambda: admission_of(server).uploading == 0)


def test_answers_that_nobody_reads(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    known = server.classify(clip_bytes(), labels=["a"]).json()["video_id"]
    many = json.dumps([f"a cat of the number {n}" for n in range(10_000)])
    question = request(b"", {"labels": many, "video_id": known})
    with attackers(server, 12, question):
        # Each keeps its place: the answer is far larger than what lies ready on the way.
        until(lambda: admission_of(server).answering == 4 and not admission_of(server).uploading)
        assert good_answers(server) == ANSWERED
        assert admission_of(server).answering >= 1
    until(lambda: admission_of(server).in_flight == 0)
    monkeypatch.setattr(connection_limits, "READ_WITHIN_S", 0.2)
    before = classified(server)
    with attackers(server, 1, question) as connections:
        until(lambda: classified(server) > before)
        head, _, body = answer_of(connections[0]).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    assert len(body) < int(length[1]), "cut off, though the client did not hang up"


def test_slow_readers_of_two_addresses_that_hold_every_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither has more than half: one of whoever has most gives way to who has none."""
    monkeypatch.setattr(connection_limits, "STALLED_AFTER_S", 0.0)
    with running(fake_runtime(), max_connections=4, max_question_bytes=8 << 30) as server:
        known = server.classify(clip_bytes(), labels=["a"]).json()["video_id"]
        many = json.dumps([f"a cat of the number {n}" for n in range(10_000)])
        question = request(b"", {"labels": many, "video_id": known})
        server.client.close()
        connections = server.web.server_state.connections
        until(lambda: not connections)

        def unread() -> int:
            return sum(
                one.flow.write_paused for one in cast(set[RequestParser], connections.copy())
            )

        with attackers(server, 2, question, "127.0.0.4"), attackers(server, 2, question):
            until(lambda: unread() == 4)
            assert good_answers(server) == ANSWERED
            assert unread() == 3


class Held:
    """A connection as those who count it see it."""

    def __init__(self, *, busy: bool, stalled: bool = False) -> None:
        self.busy, self.stalled, self.gave_way = busy, stalled, False

    def give_way(self) -> None:
        self.gave_way = True


def test_what_is_worked_on_gives_way_to_nobody_and_who_has_as_many_takes_none() -> None:
    counted = OpenConnections(5, lambda address: False)
    reading = [Held(busy=True), Held(busy=True, stalled=True)]
    for held in reading:
        assert counted.enter(held, "10.0.0.1") is True
    for held in (Held(busy=True), Held(busy=True)):
        assert counted.enter(held, "10.0.0.2") is True
    assert counted.enter(Held(busy=True), "10.0.0.3") is True
    assert counted.enter(Held(busy=True), "10.0.0.3") is None, "two each"
    assert counted.enter(Held(busy=True), "10.0.0.4") is True
    assert [held.gave_way for held in reading] == [False, True]
    assert counted.enter(Held(busy=True), "10.0.0.5") is None, "all that is left is worked on"


def test_the_reserve_is_no_way_to_more_than_half_and_nobody_has_all_of_it() -> None:
    counted = OpenConnections(4, lambda address: False)
    for _ in range(2):
        assert counted.enter(Held(busy=True), "10.0.0.1") is True
    asking = [Held(busy=False) for _ in range(RESERVE)]
    for held in asking:
        assert counted.enter(held, "10.0.0.1") is None
    assert [held.gave_way for held in asking] == [True] * (RESERVE // 2) + [False] * (RESERVE // 2)
    for held in asking[RESERVE // 2 :]:
        held.busy = True
    assert counted.enter(Held(busy=True), "10.0.0.1") is False
    for _ in range(2):
        assert counted.enter(Held(busy=True), "10.0.0.2") is True
    assert counted.enter(Held(busy=False), "10.0.0.2") is None
