"""What a connection may do before, beside and instead of a proper request; over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from service.transport import connection_limits as under_test
from service.transport import lingering_close as lingering
from service.transport.connection_limits import MAX_HEAD_BYTES, READ_BYTES, Connection
from service.transport.http_parser import MAX_FIELD_BYTES, MAX_HEADERS
from tests.conftest import missing
from tests.service.conftest import RunningServer, fake_runtime, running, until

HEAD_TIMEOUT_S = 0.5
LIMIT = 300_000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime(), max_upload_bytes=LIMIT) as started:
        yield started


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningServer]:
    """A server that does not wait long for a head."""
    with running(fake_runtime(), header_timeout_s=HEAD_TIMEOUT_S) as started:
        yield started


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def sent_until_refused(connection: socket.socket, data: bytes, times: int) -> None:
    """Send the data over and over, for as long as anybody takes it."""
    try:
        for _ in range(times):
            connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def answer_of(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass  # closed with bytes of ours unread; what was answered before has arrived
    return received


def problem_of(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    found: dict[str, object] = json.loads(body)
    return found


def test_what_is_no_http_is_told_so(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"hello, is anybody there?\r\n\r\n")
        assert problem_of(answer_of(connection))["code"] == "malformed_request"


@pytest.mark.parametrize(
    "piece",
    [b"X: " + b"y" * 1000 + b"\r\n", b"y" * 1000, b"X: y\r\n" * 100],
    ids=["large headers", "one endless header", "many headers"],
)
def test_an_endless_head_is_refused(server: RunningServer, piece: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nLong: ")
        sent_until_refused(connection, piece, 10 * MAX_HEAD_BYTES // len(piece))
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert problem_of(answer)["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /?" + b"a&" * (MAX_FIELD_BYTES // 2) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + b"," * (MAX_FIELD_BYTES + 1) + b"\r\n\r\n",
    ],
    ids=["address", "header"],
)
def test_one_long_field_is_refused(server: RunningServer, head: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(head)
        assert problem_of(answer_of(connection))["code"] == "headers_too_large"


def test_an_endless_trailer_is_refused(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n3\r\n--b\r\n0\r\nLong: "
        )
        sent_until_refused(connection, b"y" * 1000, 10 * MAX_HEAD_BYTES // 1000)
        assert b" 200 " not in answer_of(connection)
    assert server.client.get("/healthz").status_code == 200


def test_a_usual_number_of_headers_is_fine(server: RunningServer) -> None:
    headers = {f"x-{i}": "y" for i in range(MAX_HEADERS - 10)}
    assert server.client.get("/healthz", headers=headers).status_code == 200


def answer_to_the_start(server: RunningServer, start: bytes) -> bytes:
    """Send the start of what never comes, and return the answer; nothing where it came too late."""
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(start)
        return answer_of(connection)
    return b""


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(hasty: RunningServer, start: bytes) -> None:
    while not (answer := answer_to_the_start(hasty, start)):
        pass
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem_of(answer)["code"] == "upload_timeout"


def stays_open(connection: socket.socket, requests: int) -> bool:
    """Send requests and wait longer than for a head; False where the first came too late."""
    for number in range(requests):
        connection.sendall(GET)
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):  # head and body may come apart
            data = connection.recv(65536)
            if number == 0 and (not data or b" 408 " in answer + data):
                return False
            assert data, answer
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 ")
    connection.settimeout(2 * HEAD_TIMEOUT_S)
    with pytest.raises(TimeoutError):  # idle between requests, and still open
        connection.recv(1)
    return True


def test_the_clock_stops_when_the_head_is_there(hasty: RunningServer) -> None:
    done = False
    while not done:
        with connect(hasty) as connection, contextlib.suppress(ConnectionError):
            done = stays_open(connection, 3)


def test_a_slow_second_head_ends_the_connection(hasty: RunningServer) -> None:
    while not (answer := answer_to_the_start(hasty, GET + b"GET /heal")).startswith(
        b"HTTP/1.1 200 "
    ):
        assert not answer or answer.startswith(b"HTTP/1.1 408 ")  # the first was late as well
    assert b"HTTP/1.1 408 " in answer


def test_who_is_still_sending_hears_the_answer(server: RunningServer) -> None:
    """A client that sends all before it reads, as most libraries do, over a slow line."""
    others = set(server.web.server_state.connections)
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LIMIT
        )
        for _ in range(10):
            connection.sendall(b"x" * (LIMIT // 10))
            time.sleep(0.02)
        assert problem_of(answer_of(connection))["code"] == "not_found"
    until(lambda: server.web.server_state.connections <= others)


def test_nobody_is_listened_to_for_ever(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LONGEST_S", 0.3)
    others = set(server.web.server_state.connections)
    with connect(server) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        assert b" 404 " in answer_of(connection)
        until(lambda: server.web.server_state.connections <= others)


def test_what_is_thrown_away_is_read_at_its_ease(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many reads a second of all that a client goes on to send."""
    per_s, length = 20, 15 * READ_BYTES
    monkeypatch.setattr(under_test, "DROPPED_READS_PER_S", per_s)
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length

    def send(connection: socket.socket) -> None:
        connection.sendall(bytes(length))
        connection.shutdown(socket.SHUT_WR)

    with running(fake_runtime(), max_upload_bytes=2 * length) as server:
        began = time.monotonic()
        with connect(server) as one, connect(server) as other:
            for connection in (one, other):
                connection.sendall(head)
                assert b" 404 " in connection.recv(999)
            senders = [threading.Thread(target=send, args=(c,)) for c in (one, other)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            until(lambda: not server.web.server_state.connections)
        assert time.monotonic() - began >= (2 * 15 - 1 - per_s) / per_s


def kept_connections() -> int:
    """How many there are in memory, open or not."""
    gc.collect()
    return sum(type(one) is Connection for one in gc.get_objects())


@pytest.mark.parametrize("sent", [GET, b"no HTTP\r\n\r\n"], ids=["answered", "refused"])
def test_nothing_is_kept_of_a_connection_that_was_reset(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A timer of its may run for a minute."""
    monkeypatch.setattr(lingering, "LONGEST_S", 3600)
    buffers = []
    lost = Connection.connection_lost

    def noted(self: Connection, error: Exception | None) -> None:
        lost(self, error)
        buffers.append(self._buffer)

    monkeypatch.setattr(Connection, "connection_lost", noted)
    with running(fake_runtime()) as server:
        before = kept_connections()
        for _ in range(3):
            with connect(server) as connection:
                connection.sendall(sent)
                assert connection.recv(9) == b"HTTP/1.1 "
                now = struct.pack("ii", 1, 0)  # close with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        until(lambda: not server.web.server_state.connections)
        until(lambda: kept_connections() <= before)
    assert not any(buffers)


def test_the_connection_that_is_idle_longest_gives_way() -> None:
    with running(fake_runtime(), max_connections=3) as server, contextlib.ExitStack() as stack:
        held = []
        for _ in range(4):
            held.append(stack.enter_context(connect(server)))
            held[-1].sendall(GET)
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):  # head and body may come apart
                data = held[-1].recv(65536)
                assert data, answer
                answer += data
            assert answer.startswith(b"HTTP/1.1 200 ")
        answer_of(held[0])  # which ends: it was closed


def test_a_connection_that_is_listened_to_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was refused may go on sending for a while, on no more connections than there may be."""
    monkeypatch.setattr(lingering, "LONGEST_S", 3600)
    with running(fake_runtime(), max_connections=3) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            held = stack.enter_context(connect(server))
            held.sendall(b"no HTTP\r\n\r\n")
            assert held.recv(12) == b"HTTP/1.1 400"
        until(lambda: len(server.web.server_state.connections) <= 3)


def test_many_connections_are_accepted_in_a_round_of_the_event_loop(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits to be accepted waits for others' rounds, each with all that comes in."""
    loop, may_go_on, many = server.web._loop, threading.Event(), 12
    assert loop is not None
    rounds, accepted, noted = itertools.count(), list[int](), [0]
    made = Connection.connection_made

    def count() -> None:
        latest = next(rounds)
        if len(accepted) < many:
            loop.call_soon(count)
        noted.append(latest)

    def note(self: Connection, transport: asyncio.BaseTransport) -> None:
        accepted.append(noted[-1])
        made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", note)
    loop.call_soon_threadsafe(may_go_on.wait)
    loop.call_soon_threadsafe(count)
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            stack.enter_context(connect(server))
        may_go_on.set()
        until(lambda: len(accepted) == many)
    assert accepted[-1] - accepted[0] < many // 2


def test_too_many_connections_are_told_so_and_health_is_answered() -> None:
    head = (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with running(fake_runtime(), max_connections=3) as server, contextlib.ExitStack() as stack:
        for number in range(3):
            stack.enter_context(connect(server)).sendall(head)
            until(lambda: server.server.admission.uploading == number + 1)  # noqa: B023
        for path, start in ((b"/labels", b"HTTP/1.1 429 "), (b"/healthz", b"HTTP/1.1 200 ")):
            with connect(server) as one_more:
                one_more.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
                answer = answer_of(one_more)
            assert answer.startswith(start)
            if path == b"/labels":
                assert problem_of(answer)["code"] == "queue_full"
                assert b"retry-after" in answer.lower()


def test_little_is_read_beyond_the_limit(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    updated = Connection.buffer_updated

    def counting(self: Connection, nbytes: int) -> None:
        read.append(nbytes)
        updated(self, nbytes)

    monkeypatch.setattr(under_test.Connection, "buffer_updated", counting)
    with connect(server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        part = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n'
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        sent_until_refused(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n", 200)
        assert problem_of(answer_of(connection))["code"] == "upload_too_large"
    assert LIMIT < sum(read) <= LIMIT + READ_BYTES


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/labels"])
def test_a_body_that_nobody_reads_closes_the_connection(server: RunningServer, path: str) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" % path.encode()
        )
        answer = answer_of(connection)
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert b"connection: close" in answer.lower()


def test_curl_is_told_why_a_large_file_is_refused(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if shutil.which("curl") is None:
        missing("curl")
    large = tmp_path_factory.mktemp("large") / "clip"
    large.write_bytes(b"\0" * 20_000_000)
    run = subprocess.run(
        ["curl", "-sS", f"{server.base_url}/classify", "-F", "labels=a", "-F", f"video=@{large}"],
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout)["code"] == "upload_too_large", run.stderr
