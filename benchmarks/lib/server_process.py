"""A server as a process of its own: started, waited for, measured, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
# Asking more often would take the processors from the start that is measured.
POLL_S, STOP_S, LEFT_S = 0.02, 15.0, 2.0
MIB = 1 << 20


def free_port() -> int:
    """Find a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class ServerProcess:
    """`python -m MODULE ARGUMENTS --port N`, for the length of a `with` block.

    `ready_s` is the time from its start to the first 200 from `ready_path`; `log` what it wrote.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        ready_path: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self._ready_path = free_port(), ready_path
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", module, *arguments, "--port", str(self.port)]
        self._environment = os.environ | dict(environment or {})
        self.ready_s = 0.0

    def __enter__(self) -> ServerProcess:
        self._log: IO[bytes] = tempfile.TemporaryFile()
        started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        self.ready_s = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

    def stop(self) -> None:
        """End it and all that it started; its log can still be read."""
        if self._process.poll() is not None:
            return
        children = self.family()[1:]
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # LitServe's helpers outlive it; nobody else's do.
        _, left = psutil.wait_procs(children, LEFT_S)
        for child in left:
            child.kill()
        psutil.wait_procs(left)

    def family(self) -> list[psutil.Process]:
        """Return the process and all that it started."""
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def memory_mib(self) -> dict[str, float]:
        """Measure resident and proportional memory; `pss` counts shared pages in part."""
        memory = [process.memory_full_info() for process in self.family()]
        return {"rss": sum(m.rss for m in memory) / MIB, "pss": sum(m.pss for m in memory) / MIB}

    def processor_s(self) -> dict[str, float]:
        """Return processor seconds so far, of the process itself and of its workers together."""
        server, *workers = (sum(process.cpu_times()[:2]) for process in self.family())
        return {"server": server, "workers": sum(workers)}

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All it wrote so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _wait(self) -> None:
        """Wait until it is ready, however long that takes; raise ServerDied where it ended."""
        with httpx.Client(base_url=self.url, timeout=None) as client:
            while self._process.poll() is None:
                try:
                    if client.get(self._ready_path).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(POLL_S)
        raise ServerDied(self.log.strip().splitlines()[-1:] or ["no word"])


class ServerDied(RuntimeError):
    """A server that never became ready."""


def our_server(
    bundle: Path, precision: str, *flags: str, environment: Mapping[str, str] | None = None
) -> ServerProcess:
    """Prepare `python -m service` with a bundle, all clients of this machine welcome."""
    arguments = ["--bundle", str(bundle), "--precision", precision, "--log-level", "warning"]
    return ServerProcess("service", [*arguments, *flags], "/readyz", environment)


def peer_server(kind: str, folder: Path, precision: str) -> ServerProcess:
    """Prepare transformers' model in that folder behind FastAPI or LitServe."""
    arguments = ["--model", str(folder), "--precision", precision]
    return ServerProcess(f"benchmarks.lib.{kind}_peer", arguments, "/health")


def ask(client: httpx.Client, content: bytes, labels: Sequence[str]) -> Any:
    """Post a clip and labels as a form; return the answer, or raise HTTPStatusError."""
    files = {"video": ("clip.mp4", content, "video/mp4")}
    return _answer(client.post("/classify", files=files, data={"labels": list(labels)}))


def ask_again(client: httpx.Client, video_id: str, labels: Sequence[str]) -> Any:
    """Post other labels about a clip that our server holds."""
    fields = {"video_id": video_id, "labels": json.dumps(list(labels))}
    parts = {name: (None, value) for name, value in fields.items()}  # a form, though without a file
    return _answer(client.post("/classify", files=parts))


def _answer(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()
