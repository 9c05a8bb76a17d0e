"""The addresses of the service as other people's infrastructure asks for them."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import healthcheck
from service.lifecycle.command_line import Mistake, listen, read_settings
from service.lifecycle.kubernetes import service_variables
from service.settings import Settings
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running
from tests.service.nginx import nginx

ROOT = Path(__file__).resolve().parents[2]
GETS = ["/", "/healthz", "/readyz", "/model", "/labels", "/metrics", "/docs", "/openapi.json"]
has_ipv6 = socket.has_dualstack_ipv6()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(
        fake_runtime(), root_path="/video/api", cors_origins="https://app.example.com"
    ) as started:
        yield started


@pytest.mark.parametrize("path", [*GETS, "/page/page.js", "/docs/assets/swagger-ui.css"])
def test_head_is_answered_as_get_without_the_body(server: RunningServer, path: str) -> None:
    get, head = server.client.get(path), server.client.head(path)
    assert (get.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path not in ("/metrics", "/readyz"):  # whose figures change
        assert head.headers["content-length"] == get.headers["content-length"]


def test_another_method_is_told_which_ones_are_taken(server: RunningServer) -> None:
    for method, path, allowed in (("POST", "/healthz", "GET"), ("GET", "/classify", "POST")):
        answer = server.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["code"] == "method_not_allowed"


def test_head_where_there_is_no_get(server: RunningServer) -> None:
    assert server.client.head("/classify").status_code == 405
    assert server.client.head("/nowhere").status_code == 404


@pytest.mark.parametrize("path", GETS[1:])
def test_a_slash_at_the_end_changes_nothing(server: RunningServer, path: str) -> None:
    headers = {"Host": "evil.example.com"}
    answer = server.client.get(path + "/", headers=headers)
    assert answer.status_code == 200
    assert "location" not in answer.headers


def test_nothing_is_redirected_to_what_the_request_says(server: RunningServer, clip: bytes) -> None:
    for path in ("/classify/", "//classify", "/video/api//classify//"):
        answer = server.client.post(
            server.base_url + path,
            files={"video": clip, "labels": (None, "a")},
            headers={"Host": "evil.example.com"},
        )
        assert answer.status_code == 200, answer.text
    assert server.client.get("/video/api/").status_code == 200
    assert server.client.get("/page").status_code == 404
    assert server.client.get("/page/").status_code == 404


@pytest.mark.parametrize("path", GETS)
def test_a_prefix_that_a_proxy_leaves_in_place(server: RunningServer, path: str) -> None:
    assert server.client.get("/video/api" + path).status_code == 200
    assert server.client.get("/video/api2" + path).status_code == 404


def test_the_prefix_alone_leads_to_the_page_by_a_relative_address(server: RunningServer) -> None:
    answer = server.client.get("/video/api", headers={"Host": "evil.example.com"})
    assert (answer.status_code, answer.headers["location"]) == (308, "api/")


@pytest.mark.parametrize(
    "names",
    [
        "traceparent, tracestate",
        "baggage,sentry-trace",
        "x-datadog-trace-id,x-datadog-parent-id,x-datadog-origin,x-datadog-sampling-priority",
        "X-Requested-With",
        "x-api-key, content-type",
        "b3, uber-trace-id, x-amzn-trace-id, request-id, newrelic",
    ],
)
def test_a_preflight_with_headers_of_traces(server: RunningServer, names: str) -> None:
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,
    }
    origin = {"Origin": "https://app.example.com"}
    answer = server.client.options("/classify", headers=origin | ask)
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name.strip().lower() in allowed for name in names.split(","))
    other = server.client.options("/classify", headers={"Origin": "https://x.example.com"} | ask)
    assert "access-control-allow-origin" not in other.headers


# --- behind a proxy that strips a prefix ------------------------------------------------------

NGINX = """
server {{
  listen unix:{folder}/socket;
  location /strip/ {{ proxy_pass http://127.0.0.1:{server}/; }}
  location /video/api {{ proxy_pass http://127.0.0.1:{server}; }}
  location /named {{
    proxy_pass http://127.0.0.1:{server}; proxy_set_header X-Forwarded-Prefix /named;
  }}
}}
"""


@pytest.fixture(scope="module")
def proxy(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of nginx with three prefixes: it strips one, passes one on, and names one."""
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(folder, NGINX.format(folder=folder, server=server.port)):
        way = httpx.HTTPTransport(uds=str(folder / "socket"))
        with httpx.Client(transport=way, timeout=None) as client:
            yield client


@pytest.mark.parametrize("prefix", ["/strip", "/video/api", "/named"])
def test_everything_that_the_page_and_the_documents_load_is_relative(
    proxy: httpx.Client, prefix: str
) -> None:
    """Followed as a browser would, from the address that it has."""
    for page in ("/", "/docs", "/docs/", "/v1/docs"):
        address = httpx.URL(f"http://x{prefix}{page}")
        links = links_of(proxy.get(address).text)
        assert len(links) >= 3
        for link in links:
            assert proxy.get(address.join(link)).status_code == 200, (page, link)


def links_of(text: str) -> list[str]:
    found = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"'#]+)["']""", text)
    return [link for link in found if not link.startswith("data:")]


def test_a_prefix_alone_leads_to_the_page_behind_a_proxy(proxy: httpx.Client) -> None:
    for prefix in ("/video/api", "/named"):
        answer = proxy.get(f"http://x{prefix}", follow_redirects=True)
        assert answer.status_code == 200
        assert answer.url.path == f"{prefix}/"


@pytest.mark.parametrize(
    ("told", "path"),
    [
        (["/named"], "/named"),
        (["/named/"], "/named"),
        (["/a, /b"], "/a/b"),
        (["/a", "/b"], "/a/b"),
    ],
)
def test_a_prefix_is_believed_from_proxies_that_are_named(
    server: RunningServer, told: list[str], path: str
) -> None:
    headers = [("X-Forwarded-Prefix", prefix) for prefix in told]
    assert server.client.get(f"{path}/v1/model", headers=headers).status_code == 200
    assert server.client.get("/v1/model", headers=headers).status_code == 200  # it was stripped
    assert server.client.get(f"{path}/v1/model").status_code == 404
    for bad in ("named", "/na med", "/..\\", "http://x/named", ""):
        answer = server.client.get("/named/v1/model", headers={"X-Forwarded-Prefix": bad})
        assert answer.status_code == 404


def test_strangers_tell_no_prefix() -> None:
    with running(fake_runtime(), trusted_proxies="10.0.0.1") as server:
        headers = {"X-Forwarded-Prefix": "/named"}
        assert server.client.get("/named/v1/model", headers=headers).status_code == 404


def test_the_document_calls_the_api_beside_itself(server: RunningServer) -> None:
    for asked in ("/openapi.json", "/openapi.json/", "/v1/openapi.json", "/video/api/openapi.json"):
        document = server.client.get(asked).json()
        (url,) = (entry["url"] for entry in document["servers"])
        root = httpx.URL(server.base_url + asked).join(url)
        assert server.client.get(f"{str(root).rstrip('/')}/v1/model").status_code == 200
        assert str(root).rstrip("/").endswith("/video/api") == asked.startswith("/video")


# --- IPv6 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["::", "[::]", "*", "::1", "[::1]", "localhost", "0.0.0.0"])
def test_hosts_to_listen_on(host: str) -> None:
    if "::1" in host and not has_ipv6:
        pytest.skip("this kernel has no IPv6")
    with listen(Settings(host=host, port=0)) as listener:
        port = listener.getsockname()[1]
        environment = {"XCLIP_HOST": host, "XCLIP_PORT": str(port)}
        asked = httpx.URL(healthcheck.server_url(environment))
        with socket.create_connection((asked.host, asked.port or 0)):
            pass
        if host in ("::", "[::]", "*") and has_ipv6:
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, port)).close()


def test_a_host_that_there_is_none_of_is_one_line() -> None:
    with pytest.raises(Mistake, match=r"cannot listen on no\.such\.host\.invalid"):
        listen(Settings(host="no.such.host.invalid", port=0))


@pytest.mark.skipif(not has_ipv6, reason="this kernel has no IPv6")
def test_a_client_over_ipv4_is_known_by_its_own_address() -> None:
    with running(fake_runtime(), host="::", rate_limit="1/month") as server:
        clip = clip_bytes()
        assert server.classify(clip, labels=["a"]).status_code == 200
        headers = {"X-Forwarded-For": "203.0.113.7"}  # believed from 127.0.0.1, the default
        files = [("video", clip), ("labels", b"a")]
        answer = server.client.post("/classify", files=files, headers=headers)
        assert answer.status_code == 200, answer.text
        assert server.classify(clip, labels=["a"]).status_code == 429


def test_the_health_check_asks_the_server_itself(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("XCLIP_PORT", str(server.port))
    assert healthcheck.main() == 0
    monkeypatch.setenv("XCLIP_HOST", "0.0.0.0")
    assert healthcheck.main() == 0
    monkeypatch.setenv("XCLIP_PORT", "eight")
    assert healthcheck.main() == 1


def test_the_health_check_asks_the_operators_port_where_there_is_one() -> None:
    ours = {"XCLIP_HOST": "10.0.0.1", "XCLIP_PORT": "8000", "XCLIP_OPS_PORT": "8001"}
    assert healthcheck.server_url(ours) == "http://10.0.0.1:8001"
    assert healthcheck.server_url(ours | {"XCLIP_OPS_HOST": "::"}) == "http://127.0.0.1:8001"


# --- Kubernetes -------------------------------------------------------------------------------

LINKS = {
    "XCLIP_PORT": "tcp://10.0.0.5:8000",
    "XCLIP_SERVICE_HOST": "10.0.0.5",
    "XCLIP_SERVICE_PORT": "8000",
    "XCLIP_SERVICE_PORT_HTTP": "8000",
    "XCLIP_PORT_8000_TCP": "tcp://10.0.0.5:8000",
    "XCLIP_PORT_8000_TCP_PROTO": "tcp",
    "XCLIP_PORT_8000_TCP_PORT": "8000",
    "XCLIP_PORT_8000_TCP_ADDR": "10.0.0.5",
    "XCLIP_REDIS_PORT": "tcp://10.0.0.6:6379",
    "XCLIP_REDIS_SERVICE_HOST": "10.0.0.6",
    "XCLIP_REDIS_SERVICE_PORT_REDIS": "6379",
    "XCLIP_REDIS_PORT_6379_TCP_ADDR": "10.0.0.6",
    "XCLIP_OPS_PORT": "udp://10.0.0.7:9100",
}


def test_variables_of_services_are_passed_over_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert healthcheck.server_url(LINKS) == "http://127.0.0.1:8000"
    settings = read_settings([])
    assert (settings.port, settings.ops_port) == (8000, None)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "enableServiceLinks: false" in said
    read_settings([])
    assert capsys.readouterr().err == ""


def test_settings_are_not_taken_for_services(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {f"XCLIP_{name.upper()}": "1" for name in Settings.model_fields}
    assert service_variables(ours) == []
    monkeypatch.setenv("XCLIP_PRT", "1")
    with pytest.raises(Mistake, match="XCLIP_PRT is no setting"):
        read_settings([])


@pytest.mark.parametrize(
    ("given", "path"), [("/xclip", "/xclip"), ("a/b/", "/a/b"), ("/", ""), ("", "")]
)
def test_root_path_as_people_write_it(given: str, path: str) -> None:
    assert Settings(root_path=given).root_path == path


def test_what_is_no_root_path_is_refused() -> None:
    with pytest.raises(Mistake, match="root_path"):
        read_settings(["--root-path", "https://example.com/x"])


# --- where uploads lie --------------------------------------------------------------------------


def test_a_folder_that_takes_no_uploads_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(Mistake, match=r"upload_dir .*absent .*--upload-dir"):
        read_settings(["--upload-dir", str(absent)])
    monkeypatch.setattr(tempfile, "tempdir", str(absent))  # as with a read-only root without /tmp
    with pytest.raises(Mistake, match=r"temporary files \(No such .*tmpfs"):
        read_settings([])


# --- what is said of the service --------------------------------------------------------------


def test_the_version_is_that_of_the_project(server: RunningServer) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert server.client.get("/openapi.json").json()["info"]["version"] == project["version"]


def test_an_image_has_the_version_of_the_project(tmp_path: Path) -> None:
    """What the Dockerfile runs, run here, on a version that nothing else has."""
    text = (ROOT / "Dockerfile").read_text()
    program = text.partition('RUN python -c "')[2].partition('"\n')[0]
    assert "METADATA" in program
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "9.8.7"\n')
    program = program.replace("\\\n", "").replace("\\\\n", "\\n")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    asked = subprocess.run(
        [sys.executable, "-c", "import importlib.metadata as m; print(m.version('xclip-serve'))"],
        cwd=tmp_path / "metadata", check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert asked.stdout.strip() == "9.8.7"


def test_starting_answers_do_not_count_against_a_rate(clip: bytes) -> None:
    with running(fake_runtime(), rate_limit="2/month") as server:
        state = server.server
        engine, state._engine = state._engine, None  # as while the bundle is being loaded
        for _ in range(5):
            assert server.classify(clip, labels=["a"]).status_code == 503
        state._engine = engine
        statuses = [server.classify(clip, labels=["a"]).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_only_what_asks_for_a_key_says_so_in_the_document(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'xclip_alice').hexdigest()} alice\n")
    with running(fake_runtime(), api_keys_file=keys) as server:
        document = server.client.get("/openapi.json").json()
    asks = {
        path: operation.get("security")
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    keyed: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    assert asks == {
        "/v1/classify": keyed,
        "/v1/videos": keyed,
        "/v1/videos/{video_id}": keyed,
        "/v1/embeddings": keyed,
        "/v1/timeline": keyed,
        "/v1/model": keyed,
        "/v1/labels": keyed,
        "/v1/labels/{name}": keyed,
        "/v1/healthz": None,
        "/v1/readyz": None,
    }
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }


def test_a_connection_stays_open_longer_than_that_of_a_proxy(server: RunningServer) -> None:
    assert server.settings.keep_alive_s > 60  # of nginx, AWS, Kubernetes' ingress
    assert server.web.config.timeout_keep_alive == server.settings.keep_alive_s


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GETS[1:])
def test_every_address_has_a_versioned_form(server: RunningServer, path: str) -> None:
    for address in (f"/v1{path}", f"/v1//{path}/", f"/video/api/v1{path}"):
        assert server.client.get(address).status_code == 200
    for address in (f"/v1/v1{path}", f"/v2{path}"):
        assert server.client.get(address).json()["code"] == "not_found"


def test_both_forms_answer_alike_and_are_counted_as_one(server: RunningServer, clip: bytes) -> None:
    files = [("video", clip), ("labels", b'["a", "b"]')]
    versioned, bare = (server.client.post(a, files=files) for a in ("/v1/classify", "/classify"))
    assert versioned.json()["predictions"] == bare.json()["predictions"]
    assert 'route="/v1' not in server.client.get("/v1/metrics").text
    assert server.client.get("/v1/").status_code == 404
