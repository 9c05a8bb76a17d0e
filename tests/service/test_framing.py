"""Where a request ends: read in one way only, or refused with an answer; over raw sockets."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from service.transport.http_parser import MAX_WAITING
from tests.conftest import missing
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running, until
from tests.service.strict_http import Answer, read_answers

UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "unknown": b"Connection: keep-alive, upgrade\r\nUpgrade: foo, bar\r\n",
    "without Connection": b"Upgrade: h2c\r\n",
}
POST = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"
INNER = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime()) as started:
        yield started


def answers(server: RunningServer, *pieces: bytes) -> list[Answer]:
    """What is answered to these bytes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                received += data
        except ConnectionError:
            pass
    found = read_answers(received)
    for answer in found:
        assert answer.phrase == HTTPStatus(answer.status).phrase
    return found


def classify(headers: bytes, clip: bytes, *, chunked: bool = False) -> tuple[bytes, bytes]:
    """The head and the body of a good request."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n["a", "b"]\r\n'
        b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n'
        + clip
        + b"\r\n--b--\r\n"
    )
    framing = (
        b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    )
    if chunked:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return (
        b"POST /classify HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n" + framing + headers + b"\r\n",
        body,
    )


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("at_once", [False, True], ids=["head first", "at once"])
def test_an_upgrade_is_ignored(
    server: RunningServer, name: str, chunked: bool, at_once: bool
) -> None:
    head, body = classify(UPGRADES[name], clip_bytes(), chunked=chunked)
    pieces = [head + body + LAST] if at_once else [head, body, LAST]
    assert [answer.status for answer in answers(server, *pieces)] == [200, 200]


@pytest.mark.parametrize("name", UPGRADES)
def test_a_body_is_not_answered(server: RunningServer, name: str) -> None:
    head = POST + UPGRADES[name] + b"Content-Length: %d\r\n\r\n" % len(INNER)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        first = connection.recv(65536)  # answered without the body: so this is the end
        connection.sendall(INNER)
        try:
            while data := connection.recv(65536):
                first += data
        except ConnectionError:
            pass
    assert [answer.status for answer in read_answers(first)] == [404]


@pytest.mark.parametrize("name", UPGRADES)
def test_an_upgrade_without_a_body_is_ignored(server: RunningServer, name: str) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + UPGRADES[name] + b"\r\n"
    assert [answer.status for answer in answers(server, ask + ask + LAST)] == [200, 200, 200]


AMBIGUOUS = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths in one": b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": b"Content-Length: +5\r\n\r\nhello",
    "hexadecimal length": b"Content-Length: 0x5\r\n\r\nhello",
    "no length": b"Content-Length:\r\n\r\nhello",
    "length and chunks": b"Content-Length: 5\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two coding headers": b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "not chunked at last": b"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "blank before the colon": b"Content-Length : 5\r\n\r\nhello",
    "folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "folded value": b"A: b\r\n c\r\n\r\n",
    "bare LF": b"A: b\nContent-Length: 5\r\n\r\nhello",
    "bare CR": b"A: b\rContent-Length: 5\r\n\r\nhello",
    "null byte": b"A: b\0c\r\n\r\n",
    "second Host": b"Host: y\r\n\r\n",
}
BROKEN_CHUNKS = {
    "chunk size": b"xyz\r\nhello\r\n0\r\n\r\n",
    "negative chunk": b"-5\r\nhello\r\n0\r\n\r\n",
    "endless chunk": b"fffffffffffffffff\r\nhello",
    "LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "LF after the chunk": b"5\r\nhello\n0\r\n\r\n",
    "longer than said": b"5\r\nhello, you\r\n0\r\n\r\n",
    "length in the trailer": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(server: RunningServer, name: str) -> None:
    found = answers(server, POST + AMBIGUOUS[name] + INNER)
    assert [answer.status for answer in found] == [400]
    assert found[0].headers["connection"] == "close"


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_a_broken_body_is_answered_once(server: RunningServer, name: str) -> None:
    head = classify(b"", b"", chunked=True)[0]
    part = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n'
    start = b"%x\r\n%s\r\n" % (len(part), part)
    found = answers(server, head, start, BROKEN_CHUNKS[name] + INNER)
    assert [answer.status for answer in found] == [400]
    assert b"malformed_request" in found[0].body


def test_a_broken_body_waits_for_the_answers_before_it(server: RunningServer) -> None:
    first = b"".join(classify(b"", clip_bytes(1)))
    second = classify(b"", b"", chunked=True)[0] + b"xyz\r\n"
    found = answers(server, first + second + INNER)
    assert [answer.status for answer in found] == [200, 400]


def test_what_follows_a_good_request_does_not_cost_its_answer(server: RunningServer) -> None:
    first = b"".join(classify(b"", clip_bytes(2)))
    assert [answer.status for answer in answers(server, first + b"nonsense\r\n\r\n")] == [200]


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\nConnection: close\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/0.9\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 405),
        (b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET http://y/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET http://y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"POST /classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_heads(server: RunningServer, ask: bytes, status: int) -> None:
    assert [answer.status for answer in answers(server, ask + INNER)] == [status]


def test_a_trailer_means_nothing(server: RunningServer) -> None:
    head, body = classify(b"Trailer: X-Request-ID\r\n", clip_bytes(), chunked=True)
    trailer = b"0\r\nX-Request-ID: of-a-trailer\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
    found = answers(server, head, body.removesuffix(b"0\r\n\r\n") + trailer + LAST)
    assert [answer.status for answer in found] == [200, 200]
    assert "of-a-trailer" not in [answer.headers["x-request-id"] for answer in found]


def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    asks = [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\n" % i
        + (UPGRADES["h2c"] if i % 3 else b"")
        + b"\r\n"
        for i in range(MAX_WAITING)
    ]
    found = answers(server, b"".join(asks) + LAST)
    names = [answer.headers["x-request-id"] for answer in found[:-1]]
    assert names == [str(i) for i in range(MAX_WAITING)]
    assert len(found) == MAX_WAITING + 1


# --- behind a proxy -----------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream api {{ server 127.0.0.1:{port}; keepalive 1; }}
  server {{
    listen unix:{folder}/socket;
    location / {{
      proxy_pass http://api; proxy_http_version 1.1; proxy_request_buffering {buffering};
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""


@pytest.fixture(params=["on", "off"], ids=["buffered", "unbuffered"])
def proxy(
    request: pytest.FixtureRequest, server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """nginx as the usual recipe for WebSocket sets it up, with one connection to the server."""
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if command is None:
        missing("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=server.port, buffering=request.param))
    process = subprocess.Popen(
        [command, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: (folder / "socket").exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield folder / "socket"
    finally:
        process.terminate()
        process.wait()


def through(proxy: Path, data: bytes) -> list[Answer]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(None)
        connection.connect(str(proxy))
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
    return read_answers(received)


@pytest.mark.parametrize("name", ["h2c", "unknown"])
def test_behind_a_proxy_nobody_gets_the_answer_to_anothers_body(
    server: RunningServer, proxy: Path, name: str
) -> None:
    _, form = classify(b"", clip_bytes())
    for body in (INNER, form, INNER + form):
        head = (
            b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(body)
        )
        upgrade = UPGRADES[name].replace(b"Connection", b"X-Connection")
        (answer,) = through(proxy, head + upgrade + b"\r\n" + body)
        # A request before the form is its preamble, and means nothing.
        assert answer.status == (400 if body == INNER else 200)
        (after,) = through(proxy, LAST)  # somebody else, maybe on the same connection to the server
        assert (after.status, after.body) == (200, b'{"status":"ok"}')
