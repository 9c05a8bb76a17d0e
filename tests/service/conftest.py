"""A real server on a port, in a thread of its own, and clips to send it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import httpx
import numpy as np
import pytest
import structlog

from export.bundle import open_bundle
from export.runtime import FakeRuntime, Runtime
from service.app import create_app
from service.lifecycle.command_line import listen, listen_for_ops
from service.lifecycle.service_state import ServiceState
from service.settings import DEMO_BUNDLE, Settings
from service.transport import lingering_close
from service.transport.graceful_shutdown import http_server
from tests.conftest import missing

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Limits that no machine is too busy for. A test of a limit sets its own.
PATIENCE: dict[str, Any] = dict.fromkeys(
    (
        "bundle_timeout_s",
        "decode_budget_s",
        "decode_timeout_s",
        "header_timeout_s",
        "keep_alive_s",
        "request_timeout_s",
        "timeline_timeout_s",
        "upload_idle_timeout_s",
        "upload_timeout_s",
        "video_url_timeout_s",
    ),
    3600,
)


BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class RunningServer:
    """uvicorn with our app on a free port; `client` talks to it over HTTP, and both are patient."""

    def __init__(self, runtime: Runtime | None = None, **settings: Any) -> None:
        self.settings = Settings(**{"port": 0, "decode_workers": 1, **PATIENCE, **settings})
        self.listener, self.ops_listener = listen(self.settings), listen_for_ops(self.settings)
        self.app = create_app(self.settings, runtime, self.ops_listener)
        self.port: int = self.listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.web = http_server(self.app, self.settings)
        self._loaded = threading.Event()
        self.server.on_ready = self.server.on_failure = self._loaded.set
        self._thread = threading.Thread(
            target=self.web.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.client = httpx.Client(base_url=self.base_url, timeout=None)

    @property
    def server(self) -> ServiceState:
        server: ServiceState = self.app.state.server
        return server

    def begin(self) -> RunningServer:
        """Start without waiting until it is ready."""
        self._thread.start()
        return self

    def start(self) -> RunningServer:
        self.begin()
        self._loaded.wait()
        assert not self.server.failure, self.server.failure
        return self

    def stop(self) -> None:
        self.client.close()
        self.web.should_exit = True
        self._thread.join()
        self.listener.close()

    def classify(self, video: bytes | None = None, **fields: Any) -> httpx.Response:
        """POST /classify; a list is a repeated field."""
        files: dict[str, Any] = {} if video is None else {"video": ("clip", video)}
        if not files:
            files = {name: (None, str(v)) for name, v in fields.items() if not isinstance(v, list)}
            fields = {name: v for name, v in fields.items() if isinstance(v, list)}
        return self.client.post("/classify", files=files, data=fields)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen; pytest's own limit ends a hopeless wait."""
    while not condition():
        time.sleep(0.002)


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


def multipart(video: bytes, *labels: str) -> bytes:
    """A request for /classify as bytes on the wire."""
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{label}\r\n'
        for label in labels
    )
    file = '--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n'
    body = (fields + file).encode() + video + b"\r\n--b--\r\n"
    return (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body


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


def long_gop(path: Path, seconds: int = 60) -> bytes:
    """A small file that takes long to decode: one key frame, and all others lean on it."""
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "color=gray:size=1280x720:rate=60",
         "-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-g", "100000", str(path)],
        check=True,
    )  # fmt: skip
    content = path.read_bytes()
    assert len(content) < 200_000
    return content


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """Events go to the standard loggers, where pytest shows them with a test that fails."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make servers that are processes of their own patient too; wait for slow readers as well."""
    monkeypatch.setattr(lingering_close, "LONGEST_S", 3600)
    for name, seconds in PATIENCE.items():
        monkeypatch.setenv(f"XCLIP_{name.upper()}", str(seconds))


# Where the hostile files of the corpus look for something to steal, and where they call.
CANARIES = Path("/tmp/serve_canary")
ADDRESS = ("127.0.0.1", 18999)


def listener_at(address: tuple[str, int]) -> socket.socket:
    """A listener at this very address, also when somebody else has it for a moment."""
    while True:
        try:
            return socket.create_server(address)
        except OSError:
            time.sleep(0.2)


@pytest.fixture
def bait(shared_dir: Path) -> Iterator[socket.socket]:
    """Files where hostile uploads look for them, and a listener that nobody may call.

    Path and address are written in the corpus, so there is one of each on a machine: a lock
    keeps the test workers, and other runs beside this one, from each other's.
    """
    with (Path(tempfile.gettempdir()) / "xclip-serve-bait.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        CANARIES.mkdir(exist_ok=True)
        source = shared_dir / "corpus"
        for name in ("canary.ts", "canary.mp4"):
            shutil.copy(source / name, CANARIES)
        for i in range(3):
            shutil.copy(source / "canary.png", CANARIES / f"canary_{i:03}.png")
        with listener_at(ADDRESS) as listener:
            yield listener
        shutil.rmtree(CANARIES)


@pytest.fixture(scope="session")
def clip() -> bytes:
    return clip_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The embedded bundle, really run."""
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        missing("Chromium (`make test` installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        opened = browser.new_page(viewport={"width": 1000, "height": 900})
        opened.set_default_timeout(0)
        expect.set_options(timeout=3_600_000)  # it has one of its own, and 0 stands for 5 s
        yield opened
        browser.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, server.crt and server.key for localhost, made by openssl."""
    if shutil.which("openssl") is None:
        missing("openssl (Debian package openssl)")
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "ca", ["-x509", "-subj", "/CN=test authority"])
    make_certificate(
        folder, "server",
        ["-x509", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-CA", "ca.crt", "-CAkey", "ca.key"],
    )  # fmt: skip
    return folder


def make_certificate(folder: Path, name: str, options: list[str]) -> None:
    subprocess.run(
        ["openssl", "req", "-newkey", "rsa:2048", "-noenc", "-days", "2",
         "-keyout", f"{name}.key", "-out", f"{name}.crt", *options],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def strace() -> str:
    """The program that writes down system calls."""
    found = shutil.which("strace")
    if found is None:
        missing("strace (`make test` installs it)")
    return found
