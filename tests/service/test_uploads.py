"""Limits of an upload over a raw socket: what arrives counts, whatever the headers claim."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import RunningServer, fake_runtime, running

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
        upload_idle_timeout_s=IDLE_S,
        upload_timeout_s=2.0,
        max_labels=500,
    ) as started:
        yield started


HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
FILE = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n'


def part(name: bytes, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


def connect(server: RunningServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
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


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_claimed_length_over_the_limit_is_refused_before_the_body(
    server: RunningServer,
) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
        status, text = answer_of(connection)
    assert status == 413
    assert b"upload_too_large" in text or b"connection: close" in text.lower()


def test_chunks_over_the_limit_are_refused_while_they_arrive(server: RunningServer) -> None:
    sent = 0
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(FILE))
        try:
            while sent < 50 * LIMIT:
                connection.sendall(chunked(b"x" * 16384))
                sent += 16384
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 50 * LIMIT, "the server read on and on"


def test_exactly_the_limit_passes_and_one_byte_more_does_not(server: RunningServer) -> None:
    fixed = FILE + b"\r\n" + part(b"labels", b"a") + b"--b--\r\n"
    for extra, refused in ((0, False), (1, True)):
        body = FILE + b"\0" * (LIMIT - len(fixed) + extra) + fixed[len(FILE) :]
        status, _ = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
        assert status == (413 if refused else 415)


def test_a_pause_in_the_upload_ends_it(server: RunningServer) -> None:
    status, text = exchange(server, HEAD + b"Content-Length: 5000\r\n\r\n" + FILE)
    assert status == 408
    assert b"upload_timeout" in text


def test_a_trickle_ends_with_the_upload_time(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.settimeout(0.05)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(FILE))
        answer = b""
        for _ in range(200):
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
    ("body", "code"),
    [
        (b"".join(part(b"labels", b"x") for _ in range(1_000)), b"too_many_parts"),
        (b"--b\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(10_000)), b"malformed_request"),
        (b"--b\r\nX: " + b"y" * 100_000, b"malformed_request"),
        (b"\r\n" * 50_000 + part(b"labels", b"a") + b"--b--\r\n", b""),
        (b"x" * 100_000, b"malformed_request"),
        (part(b"video", b"x") * 2 + b"--b--\r\n", b"duplicate_field"),
    ],
    ids=["parts", "headers", "long header", "preamble", "no boundary", "two files"],
)
def test_odd_forms_are_the_senders_mistake(server: RunningServer, body: bytes, code: bytes) -> None:
    status, text = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert 400 <= status < 500, text
    assert code in text


def test_a_length_that_lies_is_no_answer_for_the_next(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 90\r\n\r\n" + FILE + b"x" * 20)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
    assert server.client.get("/healthz").status_code == 200


def test_nothing_stays_in_the_upload_folder(server: RunningServer, clip: bytes) -> None:
    assert server.classify(clip, labels=["a"]).status_code == 200
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 9000\r\n\r\n" + FILE + b"x" * 3000)
    assert server.settings.upload_dir is not None
    assert os.listdir(server.settings.upload_dir) == []
    assert server.client.get("/readyz").status_code == 200


def test_descriptors_are_given_back(server: RunningServer, clip: bytes) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    server.classify(clip, labels=["a"])
    before = count()
    for i in range(20):
        server.classify(clip + bytes([i]), labels=["a"])
        server.classify(b"no video" + bytes([i]), labels=["a"])
    assert count() <= before + 2
