"""Limits of an upload over a raw socket: what arrives counts, whatever the headers claim.

After each test: little was read beyond the limit, and the server holds no file of an upload.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.decode.ending import Ending
from service.transport.connection_limits import READ_BYTES, Connection
from service.transport.http_parser import MAX_WAITING
from tests.service.conftest import (
    RunningServer,
    clip_bytes,
    fake_runtime,
    multipart,
    running,
    until,
)
from tests.service.strict_http import read_answers

LIMIT = 200_000
IDLE_S = 0.3
SLACK = 64 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("uploads")
    with running(
        fake_runtime(),
        max_upload_bytes=LIMIT,
        upload_dir=folder,
        upload_idle_timeout_s=600,
        upload_timeout_s=600,
        max_labels=500,
    ) as started:
        yield started


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningServer]:
    """A server that does not wait long for what has stopped coming."""
    with running(fake_runtime(), upload_idle_timeout_s=IDLE_S, upload_timeout_s=2.0) as started:
        yield started


@pytest.fixture(autouse=True)
def read_bytes(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes that the server reads of each connection, in order of the connections."""
    read: dict[Connection, int] = {}
    totals: list[int] = []
    updated = Connection.buffer_updated

    def counting(self: Connection, nbytes: int) -> None:
        read[self] = read.get(self, 0) + nbytes
        totals[:] = read.values()
        updated(self, nbytes)

    monkeypatch.setattr(Connection, "buffer_updated", counting)
    yield totals
    until(lambda: server.server.admission.in_flight == 0)
    assert max(totals, default=0) <= LIMIT + SLACK
    until(lambda: held_files(server) == [])


def held_files(server: RunningServer) -> list[str]:
    """Files of uploads that exist, or that a process of the service still has open."""
    folder = str(server.settings.upload_dir)
    found = os.listdir(folder)
    for process in (os.getpid(), *server.server.engine.pool.pids):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor).startswith(folder):
                    found.append(f"{process}: {descriptor.name}")
    return found


HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
FILE = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n'


def part(name: bytes, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


def connect(server: RunningServer) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", server.port),
    )
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        assert data, f"closed without an answer, after {received!r}"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    while len(body) < length and (data := connection.recv(65536)):
        body += data
    received = head + b"\r\n\r\n" + body
    return int(received.split()[1]), received


def exchange(server: RunningServer, *chunks: bytes) -> tuple[int, bytes]:
    with connect(server) as connection:
        try:
            for chunk in chunks:
                connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent; the answer is there to read
        return answer_of(connection)


def sent(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # closed before all was sent
        connection.sendall(data)


def all_of(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_claimed_length_over_the_limit_is_refused_before_the_body(
    server: RunningServer, read_bytes: list[int]
) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
        status, text = answer_of(connection)
    assert status == 413
    assert b"upload_too_large" in text
    assert b"connection: close" in text.lower()
    assert max(read_bytes) < 1000


def test_chunks_over_the_limit_are_refused_while_they_arrive(
    server: RunningServer, read_bytes: list[int]
) -> None:
    endless = [chunked(b"x" * 16384)] * (50 * LIMIT // 16384)
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(FILE)
    status, text = exchange(server, head, *endless)
    assert status == 413
    assert b"upload_too_large" in text
    assert max(read_bytes) > LIMIT


def test_exactly_the_limit_passes_and_one_byte_more_does_not(server: RunningServer) -> None:
    fixed = FILE + b"\r\n" + part(b"labels", b"a") + b"--b--\r\n"
    for extra, refused in ((0, False), (1, True)):
        body = FILE + b"\0" * (LIMIT - len(fixed) + extra) + fixed[len(FILE) :]
        status, _ = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
        assert status == (413 if refused else 415)


def test_a_pause_in_the_upload_ends_it(hasty: RunningServer) -> None:
    status, text = exchange(hasty, HEAD + b"Content-Length: 5000\r\n\r\n" + FILE)
    assert status == 408
    assert b"upload_timeout" in text


def test_a_trickle_ends_with_the_upload_time(hasty: RunningServer) -> None:
    with connect(hasty) as connection:
        connection.settimeout(0.05)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(FILE))
        answer = b""
        while True:
            try:
                connection.sendall(chunked(b"x"))
                answer = connection.recv(65536)
                break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
    assert b" 408 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"".join(part(b"labels", b"x") for _ in range(2_000)), 413, b"too_many_parts"),
        (
            b"--b\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(10_000)),
            400,
            b"malformed_request",
        ),
        (b"--b\r\nX: " + b"y" * 100_000, 400, b"malformed_request"),
        (b"x" * 100_000, 400, b"malformed_request"),
        ((FILE + b"x\r\n") * 2 + b"--b--\r\n", 422, b"duplicate_field"),
        (FILE + b"x\r\n" + part(b"vidoe", b"x") + b"--b--\r\n", 422, b"unknown_field"),
        (FILE + b"x\r\n" + part(b"labels", b"a"), 400, b"malformed_request"),
        (part(b"labels", b"a") + b"--b--\r\n" + b"more" * 1000, 422, b"missing_field"),
        (part(b"labels", b"a") + b"--b--\r\n" + b"more" * 30_000, 422, b"missing_field"),
    ],
    ids=[
        "parts", "headers", "long header", "no boundary", "two files", "unknown field", "no end",
        "more after the end", "much more after the end",
    ],
)  # fmt: skip
def test_odd_forms_are_the_senders_mistake(
    server: RunningServer, body: bytes, status: int, code: bytes
) -> None:
    got, text = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert got == status, text
    assert code in text


def test_ten_thousand_parts_are_refused(server: RunningServer) -> None:
    parts = [chunked(part(b"labels", b"x") * 100)] * 100
    status, text = exchange(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *parts)
    assert status == 413
    assert b"too_many_parts" in text


def test_an_endless_preamble_ends_with_the_limit(server: RunningServer) -> None:
    blank = [chunked(b"\r\n" * 4096)] * (50 * LIMIT // 8192)
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head, *blank)[0] in (400, 413)


def test_a_body_shorter_than_its_length_waits_and_is_refused(hasty: RunningServer) -> None:
    body = FILE + b"x" * 20
    status, text = exchange(hasty, HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + 900), body)
    assert status == 408
    assert b"upload_timeout" in text


@pytest.mark.parametrize("path", [b"/classify", b"/timeline", b"/embeddings"])
def test_a_sender_that_closes_early_leaves_nothing(server: RunningServer, path: bytes) -> None:
    head = HEAD.replace(b"/classify", path)
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(head + b"Content-Length: 9000\r\n\r\n" + FILE + b"x" * 3000)
            until(lambda: server.server.admission.uploading == 1)
        until(lambda: server.server.admission.uploading == 0)


def test_what_follows_a_body_is_another_request(server: RunningServer, clip: bytes) -> None:
    """A length that lies downwards cuts the form; the rest is no part of it, and no request."""
    body = FILE + clip + b"\r\n" + part(b"labels", b"a") + b"--b--\r\n"
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) - 500)
    status, text = exchange(server, head, body)
    assert status == 400
    assert b"malformed_request" in text
    assert server.classify(clip, labels=["a"]).status_code == 200


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LATER = {
    "nothing": [],
    "one request": [GET],
    "some, one by one": [GET, multipart(clip_bytes(shade=4), "a"), GET, GET + GET[:10]],
}


@contextlib.contextmanager
def nobody_decodes(server: RunningServer) -> Iterator[None]:
    """Workers that were stopped by a signal never finish, however quick the machine is."""
    pool = server.server.engine.pool
    until(lambda: pool.ready == len(pool.pids) == 2)  # none is still being started
    workers = pool.pids
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_who_hangs_up_while_a_timeline_is_decoded_stops_the_decoding(server: RunningServer) -> None:
    """Though its worker does not hear of it: it is ended, and others have their places."""
    with nobody_decodes(server):
        with connect(server) as connection:
            asked = multipart(clip_bytes(shade=4), "a")
            connection.sendall(asked.replace(b"POST /classify", b"POST /timeline"))
            until(lambda: server.server.engine.pool.running == 1)
        until(lambda: server.server.engine.pool.running == 0)
    until(lambda: server.server.admission.in_flight == 0)
    assert server.classify(clip_bytes(shade=5), labels=["a"]).status_code == 200


@pytest.mark.parametrize("behind", [b"", GET], ids=["", "with another"])
@pytest.mark.parametrize("later", LATER)
def test_who_hangs_up_in_mid_decode_stops_the_decoding(
    server: RunningServer,
    behind: bytes,
    later: str,
    read_bytes: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also who has asked for more already, or does while the first is answered."""
    pool = server.server.engine.pool
    before = pool.stats.ended[Ending.CANCELLED]
    with nobody_decodes(server):
        with connect(server) as connection:
            first = multipart(clip_bytes(shade=2), "a") + behind
            connection.sendall(first)
            until(lambda: pool.running == 1)
            sent = len(first)
            for piece in LATER[later]:
                connection.sendall(piece)
                sent += len(piece)
                until(lambda sent=sent: read_bytes[-1] == sent)  # type: ignore[misc]
        until(lambda: pool.running == 0)
    until(lambda: server.server.admission.in_flight == 0)
    assert "Exception in ASGI" not in caplog.text
    assert pool.stats.ended[Ending.CANCELLED] == before + 1
    assert server.classify(clip_bytes(shade=3), labels=["a"]).status_code == 200


@pytest.mark.parametrize(
    ("more", "waiting", "statuses"),
    [
        (GET * 5000, MAX_WAITING, [200] * (1 + MAX_WAITING)),
        (multipart(bytes(LIMIT - 1000), "a") + LAST, 1, [200, 415, 200]),
    ],
    ids=["requests", "a body"],
)
def test_little_is_read_of_what_comes_before_its_turn(
    server: RunningServer, more: bytes, waiting: int, statuses: list[int], read_bytes: list[int]
) -> None:
    first = multipart(clip_bytes(shade=5 + waiting), "a")  # one that nobody has asked about
    with connect(server) as connection:
        with nobody_decodes(server):
            connection.sendall(first)
            until(lambda: server.server.engine.pool.running == 1)
            sending = threading.Thread(target=sent, args=(connection, more))
            sending.start()
            until(lambda: read_bytes[-1] == len(first) + READ_BYTES)
            pipelines = [c.pipeline for c in server.web.server_state.connections if c.pipeline]  # type: ignore[union-attr]
            assert [len(pipeline) for pipeline in pipelines] == [waiting]
        answers = read_answers(all_of(connection))
        sending.join()
    assert [answer.status for answer in answers] == statuses
    assert answers[-1].headers["connection"] == "close"


def test_descriptors_are_given_back(server: RunningServer, clip: bytes) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    server.classify(clip, labels=["a"])
    before = count()
    for i in range(20):
        server.classify(clip + bytes([i]), labels=["a"])
        server.classify(b"no video" + bytes([i]), labels=["a"])
    assert count() <= before + 2
