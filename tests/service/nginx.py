"""nginx in front of a server, with a configuration of the test's own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import missing
from tests.service.conftest import until

AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 0;
  {server}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, server: str) -> Iterator[None]:
    """Run nginx with this server block for the length of a block."""
    with _started(folder, server) as process:
        assert process.poll() is None, (folder / "error.log").read_text()
        yield


@contextlib.contextmanager
def nginx_on_a_port(folder: Path, locations: str) -> Iterator[int]:
    """Run nginx with these locations on a port that was free, or another if that is taken."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        block = f"server {{ listen 127.0.0.1:{port}; {locations} }}"
        with _started(folder, block) as process:
            if process.poll() is None:
                yield port
                return
            assert "Address already in use" in (folder / "error.log").read_text()


@contextlib.contextmanager
def _started(folder: Path, server: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start nginx and wait until it listens, which its pid file says, or has ended."""
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if command is None:
        missing("nginx")
    config, pid = folder / "nginx.conf", folder / "pid"
    pid.unlink(missing_ok=True)
    config.write_text(AROUND.format(folder=folder, server=server))
    process = subprocess.Popen(
        [command, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: pid.exists() or process.poll() is not None)
        yield process
    finally:
        process.terminate()
        process.wait()
