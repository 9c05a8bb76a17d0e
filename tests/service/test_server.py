"""Starting, being ready, being asked, stopping: the process as its operator sees it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.decode import DecodePool
from service.settings import Settings
from tests.service.conftest import RunningServer, fake_runtime, multipart, running, until

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        # any port, unless told: somebody may have the usual one
        env={**os.environ, "XCLIP_PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fails_with(*arguments: str, **environment: str) -> str:
    with start(*arguments, **environment) as process:
        _, errors = process.communicate()
    assert process.returncode != 0
    told = [line for line in errors.splitlines() if not line.startswith("{")]  # besides the log
    assert len(told) == 1, errors
    assert "Traceback" not in errors
    return told[0]


def test_health_model_labels_docs(server: RunningServer) -> None:
    get = server.client.get
    assert get("/healthz").json() == {"status": "ok"}
    ready = get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["decode_workers"] >= 1
    until(lambda: get("/readyz").json()["decode_workers"] >= 2)  # the others follow
    model = get("/model").json()
    assert model["runtime"] == "onnxruntime-cpu"
    assert model["inputs"]["num_frames"] > 0
    assert model["limits"]["max_labels"] == server.settings.max_labels
    page = get("/docs")
    assert page.status_code == 200
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert "//" not in address, f"{address} is on another host"
        assert get(address).status_code == 200
    document = get("/openapi.json").json()
    classify = document["paths"]["/v1/classify"]["post"]
    form = classify["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"video", "video_id", "labels", "label_set", "template", "top_k"} <= set(form)
    assert {"200", "404", "413", "415", "422", "429", "503", "504"} <= set(classify["responses"])


def test_the_page_is_whole(server: RunningServer) -> None:
    page = server.client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    addresses = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert server.client.get(address).status_code == 200


def test_metrics_count(server: RunningServer, clip: bytes) -> None:
    def value(name: str) -> float:
        text = server.client.get("/metrics").text
        found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    good = 'xclip_requests_total{code="",route="/classify",status="200"}'
    bad = 'xclip_requests_total{code="empty_labels",route="/classify",status="422"}'
    before = value(good), value(bad), value('xclip_label_cache_total{result="miss"}')
    server.classify(clip, labels=["never seen before", "nor this"])
    server.classify(clip)
    after = value(good), value(bad), value('xclip_label_cache_total{result="miss"}')
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2]
    assert value('xclip_stage_seconds_count{stage="score"}') >= 1
    assert value("xclip_in_flight") == 0


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that is ready, and its address; killed if the test leaves it running."""
    with start("--port", "0", *arguments) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            address = re.search(r"http://[\d.:]+", greeting)
            assert address, greeting
            assert "onnxruntime-cpu, fp32" in greeting
            assert httpx.get(f"{address[0]}/readyz", timeout=None).status_code == 200
            yield process, address[0]
        finally:
            process.kill()


def test_logs_hold_no_labels_and_no_file_names(clip: bytes) -> None:
    with started("--log-format", "json") as (process, url):
        response = httpx.post(
            f"{url}/classify",
            files={"video": ("secret-name.mp4", clip)},
            data={"labels": ["secret-label", "other"]},
            headers={"x-request-id": "find-me"},
            timeout=None,
        )
        assert response.status_code == 200, response.text
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
        assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any(line.get("request_id") == "find-me" for line in lines)
    assert "secret" not in errors


def test_not_ready_until_loaded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    runtime = fake_runtime()
    warm_up = runtime.warm_up
    monkeypatch.setattr(runtime, "warm_up", lambda: (release.wait(), warm_up())[1])
    server = RunningServer(runtime).begin()
    try:
        with httpx.Client(timeout=None) as client:
            base = f"http://127.0.0.1:{server.port}"
            assert client.get(f"{base}/healthz").status_code == 200
            response = client.get(f"{base}/readyz")
            assert response.status_code == 503
            assert response.json()["code"] == "not_ready"
            assert "retry-after" in response.headers
            release.set()
            while client.get(f"{base}/readyz").status_code != 200:
                pass
    finally:
        release.set()
        server.stop()


def test_readiness_sees_a_network_that_fails() -> None:
    runtime = fake_runtime()
    with running(runtime) as server:

        def broken(*_: Any) -> None:
            raise RuntimeError("broken")

        runtime.encode_video = broken  # type: ignore[assignment,method-assign]
        server.server.readiness.forget()
        response = server.client.get("/readyz")
    assert response.status_code == 503
    assert "broken" not in response.text


def test_stopping_finishes_what_was_accepted(clip: bytes) -> None:
    boundary = b"--b\r\nContent-Disposition: form-data; name="
    body = boundary + b'"labels"\r\n\r\na\r\n' + boundary + b'"video"; filename="c"\r\n\r\n' + clip
    body += b"\r\n--b--\r\n"
    head = (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    )
    with started() as (process, url):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:500])
            until(lambda: _in_flight(url))
            process.send_signal(signal.SIGTERM)
            connection.sendall(body[500:])
            assert b" 200 " in connection.recv(65536).split(b"\r\n")[0]
        assert process.wait() == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))


def _in_flight(url: str) -> bool:
    text = httpx.get(f"{url}/metrics", timeout=None).text
    return "xclip_uploading 1.0" in text


def test_a_disconnect_cancels_the_work(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    started, cancelled = [], []

    async def endless(self: DecodePool, *_: Any, **__: Any) -> None:
        started.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    with running(fake_runtime()) as server:
        monkeypatch.setattr(DecodePool, "decode", endless)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(multipart(clip, "a"))
            until(lambda: bool(started))
        until(lambda: bool(cancelled))
        until(lambda: server.server.admission.in_flight == 0)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--bundle", "nowhere"], "nowhere"),
        (["--port", "99999"], "port"),
        (["--max-labels", "many"], "max"),
        (["--upload-dir", "nowhere"], "upload_dir"),
        (["--port", "0", "--runtime", "abacus"], "abacus"),
        (["--labels-max", "3"], "--labels-max"),
    ],
)
def test_mistakes_at_the_start_are_one_line(arguments: list[str], hint: str) -> None:
    assert hint in fails_with(*arguments)


def test_mistakes_in_the_environment_are_one_line() -> None:
    assert "XCLIP_LABELS_MAX" in fails_with(XCLIP_LABELS_MAX="3")
    assert "port" in fails_with(XCLIP_PORT="eighty")


def test_a_port_in_use_is_one_line(server: RunningServer) -> None:
    assert "another --port" in fails_with("--port", str(server.port))


def test_a_changed_bundle_names_the_file(tmp_path: Path) -> None:
    import shutil

    from service.settings import DEMO_BUNDLE

    shutil.copytree(DEMO_BUNDLE, tmp_path / "b")
    with (tmp_path / "b" / "score_head.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    assert "score_head.onnx" in fails_with("--bundle", str(tmp_path / "b"))


def test_settings_are_frozen_and_each_is_described() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    assert all(field.description for field in Settings.model_fields.values())
