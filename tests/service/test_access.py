"""Who may ask, from which pages, and where operators look: against a real server."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from service import keys as command
from service.access import api_keys as under_test
from service.access.api_keys import KeyFile, read_keys
from service.access.client import client_of
from service.access.origin import check_origin
from service.contract.errors import ApiError
from service.settings import Settings
from tests.service.conftest import RunningServer, fake_runtime, running, until

ALICE, BOB = "xclip_alice", "xclip_bob"


def line(key: str, name: str, rate: str = "") -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()} {name} {rate}\n"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# who may ask\n\n" + line(ALICE, "alice") + line(BOB, "bob", "2/hour"))
    return path


def ask(server: RunningServer, clip: bytes, headers: dict[str, str]) -> httpx.Response:
    return server.client.post(
        "/classify", files={"video": clip}, data={"labels": ["a", "b"]}, headers=headers
    )


def test_only_known_keys_are_let_in(key_file: Path, clip: bytes) -> None:
    with running(fake_runtime(), api_keys_file=key_file) as server:
        for headers in (
            {"Authorization": f"Bearer {ALICE}"},
            {"Authorization": f"bearer  {ALICE}"},
            {"X-API-Key": ALICE},
        ):
            assert ask(server, clip, headers).status_code == 200
        wrong: tuple[dict[str, str], ...] = (
            {},
            {"X-API-Key": ""},
            {"X-API-Key": ALICE + "x"},
            {"Authorization": f"Basic {ALICE}"},
            {"X-API-Key": hashlib.sha256(ALICE.encode()).hexdigest()},
        )
        for headers in wrong:
            refused = ask(server, clip, headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert ALICE not in refused.text
        for address in ("/model", "/labels", "/labels/labels", "/metrics"):
            assert server.client.get(address).status_code == 401
            known = server.client.get(address, headers={"X-API-Key": ALICE})
            assert known.status_code == 200, address
        for address in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
            assert server.client.get(address).status_code == 200, address


def test_a_body_without_a_key_is_not_read(key_file: Path) -> None:
    with running(fake_runtime(), api_keys_file=key_file) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.settimeout(None)
            client.sendall(
                b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
            )
            answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer.lower()


def test_keys_change_while_the_server_runs(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(under_test, "CHECK_EVERY_S", 0.0)
    keys = KeyFile(key_file)
    assert keys.find("xclip_carol") is None
    key_file.write_text(line("xclip_carol", "carol"))
    found = keys.find("xclip_carol")
    assert found is not None
    assert found.name == "carol"
    assert keys.find(ALICE) is None
    for broken in ("nonsense\n", line("a", "x") * 2):
        key_file.write_text(broken)
        assert keys.find("xclip_carol") == found
        assert keys.stale
    key_file.unlink()
    assert keys.find("xclip_carol") == found
    # Said once for as long as it lasts, not with every request.
    assert sum("not read again" in record.getMessage() for record in caplog.records) == 1
    key_file.write_text("# nobody any more\n")
    assert keys.find("xclip_carol") is None
    assert not keys.stale


def test_a_reading_that_failed_is_tried_again_though_the_file_does_not_change(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor was left when a key was taken away: it goes as soon as there is one."""
    monkeypatch.setattr(under_test, "CHECK_EVERY_S", 0.0)
    keys = KeyFile(key_file)
    key_file.write_text(line(ALICE, "alice"))
    with monkeypatch.context() as exhausted:

        def no_descriptor(*_: object) -> bytes:
            raise OSError(errno.EMFILE, "Too many open files")

        exhausted.setattr(under_test, "read_bounded", no_descriptor)
        assert keys.find(BOB) is not None
        assert keys.stale
    assert keys.find(BOB) is None
    assert keys.find(ALICE) is not None
    assert not keys.stale


def test_a_file_without_keys_lets_nobody_in(tmp_path: Path, clip: bytes) -> None:
    empty = tmp_path / "keys"
    empty.write_text("# none\n")
    with running(fake_runtime(), api_keys_file=empty) as server:
        assert ask(server, clip, {"X-API-Key": ALICE}).status_code == 401
        assert "xclip_api_keys_stale 0.0" in server.server.metrics.render().decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("abc alice\n", "line 1: must be a SHA-256"),
        (line("a", "x").upper(), "line 1: must be a SHA-256"),
        (line("a", "no/slash"), "line 1: must be"),
        (line("a", "x") + line("b", "y", "often"), "line 2: 'often' is no rate"),
        (line("a", "x") + line("b", "x"), "x stands there twice"),
    ],
)
def test_a_wrong_key_file_is_told_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ValueError, match=says):
        read_keys(path)
    started = subprocess.run(
        [sys.executable, "-m", "service", "--api-keys-file", str(path), "--port", "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert started.returncode == 2
    assert len(started.stderr.splitlines()) == 1
    assert says in started.stderr


def test_a_made_key_lets_in(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "service.keys", "carol", "5/minute"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = tmp_path / "keys"
    path.write_text(made.stdout)
    key = made.stderr.splitlines()[0].split()[-1]
    found = KeyFile(path).find(key)
    assert found is not None
    assert (found.name, str(found.rate)) == ("carol", "5 per 1 minute")
    assert key not in made.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--help"], 0, "usage: python -m service.keys"),
        (["--name"], 2, "required"),
        ([], 2, "required"),
        (["a/b"], 2, "give a name of letters"),
        (["carol", "often"], 2, "'often' is no rate"),
    ],
)
def test_no_key_is_made_without_a_good_name(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        outcome = command.main(arguments)
    except SystemExit as ended:
        outcome = ended.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert outcome == status
    assert says in said.out + said.err
    assert under_test.PREFIX not in said.out + said.err.replace("XCLIP_", "")


def test_too_many_requests_of_one_key_wait(key_file: Path, clip: bytes) -> None:
    with running(fake_runtime(), api_keys_file=key_file, rate_limit="1000/hour") as server:
        answers = [ask(server, clip, {"X-API-Key": BOB}) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert answers[2].json()["code"] == "rate_limited"
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 3600
        assert ask(server, clip, {"X-API-Key": ALICE}).status_code == 200
        assert server.client.get("/model", headers={"X-API-Key": BOB}).status_code == 200


def test_a_stored_list_is_counted_too() -> None:
    with running(fake_runtime(), rate_limit="2/month") as server:
        asked = [server.client.get("/labels/labels") for _ in range(3)]
        assert [answer.status_code for answer in asked] == [200, 200, 429]
        assert server.client.get("/labels").status_code == 200


def test_without_keys_addresses_are_counted(clip: bytes) -> None:
    with running(fake_runtime(), rate_limit="1/month") as server:
        told = {"X-Forwarded-For": "203.0.113.7"}  # from a proxy that is believed: loopback
        assert [ask(server, clip, {}).status_code for _ in range(2)] == [200, 429]
        assert [ask(server, clip, told).status_code for _ in range(2)] == [200, 429]
    with running(fake_runtime(), rate_limit="1/month", trusted_proxies="198.51.100.1") as server:
        assert ask(server, clip, {}).status_code == 200
        assert ask(server, clip, told).status_code == 429


def test_other_pages_may_not_ask_unless_allowed(clip: bytes) -> None:
    page = {"Origin": "https://page.example"}
    preflight = page | {"Access-Control-Request-Method": "POST"}
    with running(fake_runtime()) as server:
        answer = ask(server, clip, page)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert server.client.options("/classify", headers=preflight).status_code == 405
    with running(fake_runtime(), cors_origins=("https://page.example",)) as server:
        answer = ask(server, clip, page)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert server.client.options("/classify", headers=preflight).status_code == 200
        refused = server.client.post("/classify", headers=page)
        assert refused.status_code == 415
        assert refused.headers["Access-Control-Allow-Origin"] == "https://page.example"
        other = ask(server, clip, {"Origin": "https://elsewhere.example"})
        assert other.status_code == 403
        assert "Access-Control-Allow-Origin" not in other.headers


HOST = {"Host": "xclip.example:8443"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://xclip.example:8443"}, 200),
        ({"Origin": "https://xclip.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.xclip.example"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        # A proxy may put another Host in: what the browser says of the page counts.
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://outside.example"}, 200),
    ],
)
def test_a_page_of_the_server_itself_may_ask(headers: dict[str, str], status: int) -> None:
    request = Headers(HOST | headers)
    if status == 200:
        check_origin(request, ())
    else:
        with pytest.raises(ApiError, match="XCLIP_CORS_ORIGINS"):
            check_origin(request, ("https://other.example",))
    check_origin(request, ("*",))


def test_a_server_that_has_names_answers_to_no_other(clip: bytes) -> None:
    """A page whose name was turned to this address (DNS rebinding) cannot read it."""
    with running(fake_runtime(), allowed_hosts="localhost,Xclip.example,[::1]") as server:
        for host in ("localhost:1", "xclip.example", "XCLIP.example:8443", "[::1]:1"):
            assert ask(server, clip, {"Host": host}).status_code == 200, host
        for host in (
            "evil.example",
            "127.0.0.1",
            "xclip.example.evil",
            "a@localhost.evil",
            "[",
            "[::::]",
        ):
            for answer in (
                ask(server, clip, {"Host": host}),
                server.client.get("/model", headers={"Host": host}),
            ):
                assert answer.status_code in (400, 421), host
        assert server.client.get("/readyz", headers={"Host": "10.0.0.1"}).status_code == 200


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("aaaa1", "unknown"),
        ("x" * 5000, "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_clients_are_told_apart_by_address(address: str | None, client: str) -> None:
    assert client_of(address) == client


def test_made_up_addresses_and_those_of_one_host_are_one_client(clip: bytes) -> None:
    with running(fake_runtime(), rate_limit="2/month") as server:
        for kind in ("nonsense{}", "2001:db8::{}"):
            asked = [ask(server, clip, {"X-Forwarded-For": kind.format(i)}) for i in range(4)]
            assert [answer.status_code for answer in asked] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    ("proxies", "good"),
    [
        ("*", True),
        ("127.0.0.1, 10.0.0.0/8,fd00::/8", True),
        ("foo", False),
        ("10.0.0.0/33", False),
        ("10.0.0.1/8", False),
        ("127.0.0.1,", False),
    ],
)
def test_proxies_are_addresses_or_networks(proxies: str, good: bool) -> None:
    if good:
        assert Settings(trusted_proxies=proxies).trusted_proxies == proxies
    else:
        with pytest.raises(ValueError, match="write 10"):
            Settings(trusted_proxies=proxies)


def test_every_part_of_a_rate_counts(clip: bytes) -> None:
    with running(fake_runtime(), rate_limit="5/year;2/month") as server:
        asked = [ask(server, clip, {}) for _ in range(3)]
    assert [answer.status_code for answer in asked] == [200, 200, 429]
    assert "2 per 1 month" in asked[2].json()["detail"]


def test_operators_can_have_a_port_of_their_own(key_file: Path) -> None:
    with (
        running(fake_runtime(), ops_port=0, api_keys_file=key_file) as server,
        httpx.Client(timeout=None) as operator,
    ):
        assert server.ops_listener is not None
        ops = f"http://127.0.0.1:{server.ops_listener.getsockname()[1]}"
        for address in ("/metrics", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
            assert server.client.get(address).status_code == 404, address
            until(lambda at=address: operator.get(ops + at).status_code == 200)  # type: ignore[misc]
        assert "/classify" in json.dumps(operator.get(f"{ops}/openapi.json").json()["paths"])
        assert "xclip_build_info" in operator.get(f"{ops}/metrics").text
        assert operator.post(f"{ops}/classify").status_code == 404
        assert server.client.get("/healthz").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{ops}/metrics", timeout=None)
