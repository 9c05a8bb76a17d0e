"""A real server on a port, in a thread of its own, and clips to send it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import uvicorn

from export.bundle import open_bundle
from export.runtime import FakeRuntime, Runtime
from service.app import create_app
from service.server import Server
from service.settings import DEMO_BUNDLE, Settings


class RunningServer:
    """uvicorn with our app on a free port; `client` talks to it over HTTP."""

    def __init__(self, runtime: Runtime | None = None, **settings: Any) -> None:
        self.settings = Settings(_env_file=None, **{"decode_workers": 2, **settings})
        self.app = create_app(self.settings, runtime)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(self.app, log_config=None, timeout_graceful_shutdown=10)
        )
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    @property
    def server(self) -> Server:
        server: Server = self.app.state.server
        return server

    def start(self) -> RunningServer:
        self._thread.start()
        with httpx.Client(transport=httpx.HTTPTransport(retries=20), timeout=60) as probe:
            while probe.get(f"http://127.0.0.1:{self.port}/readyz").status_code != 200:
                assert not self.server.failure, self.server.failure
        return self

    def stop(self) -> None:
        self.client.close()
        self._uvicorn.should_exit = True
        self._thread.join(30)
        self.listener.close()
        assert not self._thread.is_alive(), "the server did not stop"

    def classify(self, video: bytes | None = None, **fields: Any) -> httpx.Response:
        """POST /classify; a list is a repeated field."""
        files = {} if video is None else {"video": ("clip", video)}
        if not files:
            files = {name: (None, str(v)) for name, v in fields.items() if not isinstance(v, list)}
            fields = {name: v for name, v in fields.items() if isinstance(v, list)}
        return self.client.post("/classify", files=files, data=fields)


@contextlib.contextmanager
def running(runtime: Runtime | None = None, **settings: Any) -> Iterator[RunningServer]:
    """A server for the length of a block."""
    server = RunningServer(runtime, **settings).start()
    try:
        yield server
    finally:
        server.stop()


def fake_runtime(bundle: Path = DEMO_BUNDLE) -> FakeRuntime:
    """A runtime without weights that fits the embedded bundle."""
    manifest = open_bundle(bundle).manifest
    return FakeRuntime(manifest.inputs, dim=manifest.text_dim)


def clip_bytes(shade: int = 0, frames: int = 16, size: int = 64) -> bytes:
    """A real mp4 file, different for each shade."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            picture = np.full((size, size, 3), (shade * 40 + i) % 256, np.uint8)
            picture[:, : (4 * i) % size] = 255 - shade
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="session")
def clip() -> bytes:
    return clip_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The embedded bundle, really run."""
    with running() as started:
        yield started


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()
