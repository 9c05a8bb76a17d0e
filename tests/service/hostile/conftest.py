"""A server as a process of its own, as an operator starts it, and eyes on all that it uses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.decode import PoolOptions
from tests.service.redis.conftest import make_redis, redis_server  # noqa: F401  # fixtures

ROOT = Path(__file__).resolve().parents[3]
MIB = 1 << 20


class ServerProcess:
    """`python -m service` with these settings (as XCLIP_*), and the processes under it."""

    def __init__(self, folder: Path, before: tuple[str, ...] = (), **settings: Any) -> None:
        self.uploads = folder / "uploads"
        self.uploads.mkdir(exist_ok=True)
        defaults: dict[str, Any] = {
            "decode_workers": 2,
            "upload_dir": self.uploads,
            "port": 0,
            "runtime": "onnxruntime-cpu",
        }
        settings = defaults | settings
        environment = {k: v for k, v in os.environ.items() if not k.startswith("XCLIP_")}
        environment |= {f"XCLIP_{name.upper()}": str(v) for name, v in settings.items()}
        self.all_workers = int(settings["decode_workers"]) + PoolOptions().spares
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "service"],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+:(\d+) ", line)
        assert found, line + self.log.read_text()
        self.url = f"http://127.0.0.1:{found[1]}"
        self.client = httpx.Client(base_url=self.url, timeout=None)

    def wait_until_ready(self) -> None:
        """Returns when /readyz says 200 and every decode worker is there."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                ready = self.client.get("/readyz")
                if ready.status_code == 200 and ready.json()["decode_workers"] >= self.all_workers:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    @property
    def root(self) -> psutil.Process:
        """The serving process; below strace it is the child."""
        process = psutil.Process(self.process.pid)
        return process.children()[0] if process.name() == "strace" else process

    def workers(self) -> list[psutil.Process]:
        """The decode workers there are now."""
        return [
            child
            for child in self.root.children(recursive=True)
            if "service.decode.worker" in _command_line(child)
        ]

    def resident(self) -> dict[int, int]:
        """Bytes resident by process: the service and everything under it."""
        sizes = {}
        for process in (self.root, *self.root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                sizes[process.pid] = process.memory_info().rss
        return sizes

    def classify(self, video: bytes, name: str = "clip.mp4", **fields: Any) -> httpx.Response:
        """POST /classify with some labels."""
        data = {"labels": '["a cat", "a dog", "juggling"]'} | fields
        return self.client.post("/classify", files={"video": (name, video)}, data=data)

    def stop(self) -> None:
        """An orderly stop; the server must end by itself, and well."""
        self.root.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0, self.log.read_text()[-4000:]

    def kill(self) -> None:
        """End it in any case, and let go of it."""
        with contextlib.suppress(psutil.Error, IndexError):
            self.root.kill()
        self.process.kill()
        self.process.wait()
        self.client.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class MemoryWatch:
    """The largest sizes seen, looked at fifty times a second."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._fresh = server.resident()
        self.before = sum(self._fresh.values())
        self.largest_growth_of_one = 0
        self.largest_growth_of_all = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            sizes = self._server.resident()
            for pid, size in sizes.items():
                grown = size - self._fresh.setdefault(pid, size)
                self.largest_growth_of_one = max(self.largest_growth_of_one, grown)
            self.largest_growth_of_all = max(
                self.largest_growth_of_all, sum(sizes.values()) - self.before
            )

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


Serving = Callable[..., contextlib.AbstractContextManager[ServerProcess]]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """`with serving(**settings) as server:` a server process, stopped in order at the end."""

    @contextlib.contextmanager
    def start(before: tuple[str, ...] = (), **settings: Any) -> Iterator[ServerProcess]:
        server = ServerProcess(tmp_path, before, **settings)
        try:
            server.wait_until_ready()
            yield server
            if server.process.returncode is None:
                server.stop()
        finally:
            server.kill()

    return start


@pytest.fixture
def memory_watch() -> type[MemoryWatch]:
    """A context that watches the memory of a server."""
    return MemoryWatch
