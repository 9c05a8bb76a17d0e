"""video_url: off unless allowed, from listed hosts only, and never a way into the network.

A real https server stands on the loopback. That it may be asked at all is the one thing that tests
change: without that the loopback is refused like every address that is not public.
"""

from __future__ import annotations

import asyncio
import http.server
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.video_url import Fetcher, is_public, resolve
from service.contract.errors import ApiError
from service.contract.upload import Upload
from tests.service.conftest import RunningServer, fake_runtime, running, until

BIG = 3 << 20


class Origin(http.server.BaseHTTPRequestHandler):
    """Somebody else's web server; `asked` on the server keeps what came."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        path, _, query = self.path.partition("?")
        getattr(self, path.strip("/").partition("/")[0])(urllib.parse.unquote(query))

    def clip(self, query: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.clip)))
        self.end_headers()
        self.wfile.write(self.server.clip)

    def to(self, query: str) -> None:
        self.send_response(302)
        self.send_header("Location", query)
        self.end_headers()

    def missing(self, query: str) -> None:
        self.send_error(404)

    def empty(self, query: str) -> None:
        self.send_response(200)
        self.end_headers()

    def claimed(self, query: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()

    def endless(self, query: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            try:
                self.wfile.write(bytes(1 << 16))
            except OSError:
                self.server.gave_up.set()
                return

    def slow(self, query: str) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.done.wait(0.1):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                self.server.gave_up.set()
                return

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def origin(certificates: Path, clip: bytes) -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.clip, server.asked = clip, []
    server.gave_up, server.done = threading.Event(), threading.Event()
    server.host = f"localhost:{server.server_address[1]}"
    server.url = f"https://{server.host}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def trust(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates / "ca.crt")


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def fetcher(origin: Any, trust: ssl.SSLContext, **changed: Any) -> Fetcher:
    how: dict[str, Any] = {
        "timeout_s": 3600, "max_bytes": BIG, "resolver": loopback, "allowed": lambda _: True,
        "tls": trust,
    }  # fmt: skip
    return Fetcher([origin.host], **how | changed)


def fetched(fetch: Fetcher, url: str) -> bytes:
    upload: Upload = asyncio.run(fetch.fetch(url))
    upload.file.seek(0)
    content = upload.file.read()
    assert len(content) == upload.size
    upload.close()
    return content


def refusal(fetch: Fetcher, url: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        fetched(fetch, url)
    return caught.value


def test_a_listed_host_is_asked_and_told_nothing_of_the_client(
    origin: Any, trust: ssl.SSLContext, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched(fetcher(origin, trust), f"{origin.url}/clip?a=b%20c") == clip
    path, headers = origin.asked[-1]
    assert path == "/clip?a=b%20c"
    assert {name.lower() for name in headers} == {
        "accept", "accept-encoding", "user-agent", "host"
    }  # fmt: skip
    assert headers["Host"] == origin.host


@pytest.mark.parametrize(
    "url",
    [
        "http://{host}/clip",
        "ftp://{host}/clip",
        "file:///etc/passwd",
        "//{host}/clip",
        "https://user:password@{host}/clip",
        "https://localhost/clip",  # another port
        "https://127.0.0.1/clip",
        "https://example.com/clip",
        "https://{host}.example.com/clip",
        "https://example.com#@{host}/clip",
        "https://{host}\\@example.com/clip",
        "https://{host}:99999/clip",
        "https://[::1/clip",
        "https://{host}/cl\nip",
        "https://{host}/" + "x" * 3000,
        "",
    ],
)
def test_other_addresses_are_refused_before_anything_is_asked(
    origin: Any, trust: ssl.SSLContext, url: str
) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    before = len(origin.asked)
    error = refusal(fetcher(origin, trust, resolver=resolver), url.format(host=origin.host))
    assert error.code == "video_url_refused"
    assert asked == []
    assert len(origin.asked) == before


PRIVATE = (
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "2001:0:53aa:64c:0:f:80ff:fffe", "64:ff9b::7f00:1", "2001:db8::1",
    "64:ff9b:1::a00:1", "fec0::1", "3fff::1", "5f00::1", "192.0.0.8", "192.88.99.1",
    "168.63.129.16", "::ffff:168.63.129.16", "2002:a83f:8110::",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_of_a_private_network(origin: Any, trust: ssl.SSLContext, address: str) -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["93.184.215.14", address]  # one bad address is enough

    before = len(origin.asked)
    error = refusal(fetcher(origin, trust, resolver=both, allowed=is_public), f"{origin.url}/clip")
    assert error.code == "video_url_refused"
    assert "public" in error.detail
    assert address not in error.detail
    assert len(origin.asked) == before


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_name_that_changes_its_answer_gains_nothing(
    origin: Any, trust: ssl.SSLContext, clip: bytes
) -> None:
    """DNS rebinding: the address that was looked at is the one that is called."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    assert fetched(fetcher(origin, trust, resolver=rebinding), f"{origin.url}/clip") == clip
    assert answers == [["10.0.0.1"]]


def test_redirects_are_looked_at_like_the_first_address(
    origin: Any, trust: ssl.SSLContext, clip: bytes
) -> None:
    fetch = fetcher(origin, trust)
    assert fetched(fetch, f"{origin.url}/to?/clip") == clip
    assert fetched(fetch, f"{origin.url}/to?{origin.url}/to%3F/clip") == clip
    for target in ("http://169.254.169.254/latest", "https://10.0.0.1/", f"http://{origin.host}/"):
        assert refusal(fetch, f"{origin.url}/to?{target}").code == "video_url_refused"
    assert refusal(fetch, f"{origin.url}/to?/to").code == "video_url_failed"
    turned: list[str] = []

    def second_is_private(_: Any) -> bool:
        turned.append("asked")
        return len(turned) == 1

    changing = fetcher(origin, trust, allowed=second_is_private)
    assert refusal(changing, f"{origin.url}/to?/clip").code == "video_url_refused"


def test_size_and_time_end(origin: Any, trust: ssl.SSLContext) -> None:
    small = fetcher(origin, trust, max_bytes=100_000)
    for path in ("claimed", "endless"):
        error = refusal(small, f"{origin.url}/{path}")
        assert error.code == "upload_too_large"
    assert origin.gave_up.wait()
    error = refusal(fetcher(origin, trust, timeout_s=0.7), f"{origin.url}/slow")
    assert error.code == "video_url_failed"


def test_what_cannot_be_had_is_told(origin: Any, trust: ssl.SSLContext, certificates: Path) -> None:
    assert "404" in refusal(fetcher(origin, trust), f"{origin.url}/missing").detail
    stranger = fetcher(origin, ssl.create_default_context())
    assert refusal(stranger, f"{origin.url}/clip").code == "video_url_failed"

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    lost = refusal(fetcher(origin, trust, resolver=nowhere), f"{origin.url}/clip")
    assert lost.code == "video_url_failed"
    assert "no such name" not in lost.detail


def test_the_certificate_must_be_the_names(origin: Any, trust: ssl.SSLContext) -> None:
    port = origin.server_address[1]
    fetch = Fetcher(
        [f"other.example:{port}"], timeout_s=3600, max_bytes=BIG, resolver=loopback,
        allowed=lambda _: True, tls=trust,
    )  # fmt: skip
    assert refusal(fetch, f"https://other.example:{port}/clip").code == "video_url_failed"


def test_the_systems_own_resolver_answers() -> None:
    assert set(asyncio.run(resolve("localhost", 443))) <= {"127.0.0.1", "::1"}


@pytest.fixture
def open_server(origin: Any, trust: ssl.SSLContext) -> Iterator[RunningServer]:
    with running(fake_runtime(), video_url_hosts=("video.example",)) as server:
        server.server.fetcher = fetcher(origin, trust)
        yield server


def test_classify_takes_an_address(open_server: RunningServer, origin: Any, clip: bytes) -> None:
    answer = open_server.classify(video_url=f"{origin.url}/clip", labels=["a", "b"])
    assert answer.status_code == 200, answer.text
    uploaded = open_server.classify(clip, labels=["a", "b"]).json()
    assert uploaded["video_id"] == answer.json()["video_id"]
    assert uploaded["cache"]["video"] == "hit"
    both = open_server.classify(clip, video_url=f"{origin.url}/clip", labels=["a", "b"])
    assert both.json()["code"] == "bad_field"
    page = open_server.classify(video_url=f"{origin.url}/empty", labels=["a", "b"])
    assert page.json()["code"] == "not_a_video"
    refused = open_server.classify(video_url="https://elsewhere.example/", labels=["a"])
    assert (refused.status_code, refused.json()["code"]) == (422, "video_url_refused")


def test_a_client_that_leaves_ends_the_fetch(open_server: RunningServer, origin: Any) -> None:
    origin.gave_up.clear()
    before = len(origin.asked)
    fields = {"video_url": (None, f"{origin.url}/slow"), "labels": (None, "a")}
    form = httpx.Request("POST", f"{open_server.base_url}/classify", files=fields)
    body = form.read()
    head = "\r\n".join(f"{name}: {value}" for name, value in form.headers.items())
    with socket.create_connection(("127.0.0.1", open_server.port)) as connection:
        connection.sendall(f"POST /classify HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        until(lambda: len(origin.asked) > before)
    assert origin.gave_up.wait()
    until(lambda: open_server.server.admission.in_flight == 0)


def test_it_is_off_by_default(origin: Any) -> None:
    with running(fake_runtime()) as server:
        before = len(origin.asked)
        answer = server.classify(video_url=f"{origin.url}/clip", labels=["a"])
        assert (answer.status_code, answer.json()["code"]) == (422, "video_url_disabled")
        assert len(origin.asked) == before


def test_a_real_server_refuses_its_own_network(certificates: Path) -> None:
    """With nothing replaced: the name is listed, and still it stands for the loopback."""
    with running(fake_runtime(), video_url_hosts=("localhost.localdomain",)) as server:
        answer = server.classify(video_url="https://localhost.localdomain/", labels=["a"])
        assert answer.status_code == 422
        assert answer.json()["code"] in ("video_url_refused", "video_url_failed")
