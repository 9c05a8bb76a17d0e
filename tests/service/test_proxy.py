"""The proxy of docs/deploy.md, run as it stands there: TLS and an upload."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx

from tests.conftest import missing
from tests.service.conftest import clip_bytes, fake_runtime, running
from tests.service.nginx import nginx

ROOT = Path(__file__).resolve().parents[2]


def documented(folder: Path, port: int) -> str:
    """The server block of the page, at other addresses."""
    block = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    assert block is not None
    changed = block[1]
    for old, new in {
        "listen 443 ssl": f"listen unix:{folder}/socket ssl",
        "/etc/ssl/": f"{folder}/",
        "127.0.0.1:8000": f"127.0.0.1:{port}",
    }.items():
        assert old in changed
        changed = changed.replace(old, new)
    return changed


def test_the_documented_proxy_ends_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=video.example.com", "-days", "2",
         "-keyout", str(tmp_path / "video.key"), "-out", str(tmp_path / "video.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    with running(fake_runtime()) as server, nginx(tmp_path, documented(tmp_path, server.port)):
        way = httpx.HTTPTransport(uds=str(tmp_path / "socket"), verify=False)
        with httpx.Client(
            transport=way, base_url="https://video.example.com", timeout=None
        ) as client:
            sent = [("video", clip_bytes()), ("labels", b'["a", "b"]')]
            answer = client.post("/classify", files=sent, timeout=None)
            assert answer.status_code == 200, answer.text
            assert client.get("/labels/").status_code == 200
