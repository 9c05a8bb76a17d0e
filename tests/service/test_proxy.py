"""The proxy of docs/deploy.md, run as it stands there: TLS and an upload."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx

from tests.conftest import missing
from tests.service.conftest import clip_bytes, fake_runtime, running, until

ROOT = Path(__file__).resolve().parents[2]
AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {server}
}}
"""


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
    return AROUND.format(folder=folder, server=changed)


def test_the_documented_proxy_ends_tls(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        missing("nginx and openssl")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=video.example.com", "-days", "2",
         "-keyout", str(tmp_path / "video.key"), "-out", str(tmp_path / "video.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    with running(fake_runtime()) as server:
        config, door = tmp_path / "nginx.conf", tmp_path / "socket"
        config.write_text(documented(tmp_path, server.port))
        process = subprocess.Popen(
            [nginx, "-p", str(tmp_path), "-c", str(config)], stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: door.exists() or process.poll() is not None)
            assert process.poll() is None, (tmp_path / "error.log").read_text()
            way = httpx.HTTPTransport(uds=str(door), verify=False)
            with httpx.Client(
                transport=way, base_url="https://video.example.com", timeout=None
            ) as client:
                sent = [("video", clip_bytes()), ("labels", b'["a", "b"]')]
                answer = client.post("/classify", files=sent, timeout=None)
                assert answer.status_code == 200, answer.text
                assert client.get("/labels/").status_code == 200
        finally:
            process.terminate()
            process.wait()
