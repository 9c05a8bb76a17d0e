"""A real redis-server on a free port, to be broken for real."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from service.access import rate_limits
from service.cache.redis import client
from service.cache.redis.client import SharedCache
from tests.conftest import missing
from tests.service.conftest import RunningServer, running

Result = TypeVar("Result")
PATIENT_S, HASTY_S = 3600.0, 0.05  # what no machine is too busy for, and what a hung Redis misses


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


class RedisServer:
    """One redis-server process; `url` is its address. Options as on its command line."""

    def __init__(
        self, folder: Path, *options: str, password: str = "", tls: Path | None = None
    ) -> None:
        self.folder, self.options, self.password, self.tls = folder, options, password, tls
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        user = f":{self.password}@" if self.password else ""
        if self.tls:
            return f"rediss://{user}localhost:{self.port}/0?ssl_ca_certs={self.tls / 'ca.crt'}"
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A plain client of our own, to look inside and to break things."""
        return redis.Redis.from_url(self.url)

    def start(self) -> RedisServer:
        """Start it, at another port where somebody has taken this one since it was found free."""
        first = self.process is None
        while not self._started():
            assert first, "redis-server has ended"
            self.port = free_port()
        return self

    def _started(self) -> bool:
        where = ["--port", str(self.port)]
        if self.tls:
            files = ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"]
            files = [str(self.tls / f) if "." in f else f for f in files]
            where = ["--port", "0", "--tls-port", str(self.port), *files]
            where += ["--tls-ca-cert-file", str(self.tls / "ca.crt"), "--tls-auth-clients", "no"]
        if self.password:
            where += ["--requirepass", self.password]
        self.process = subprocess.Popen(
            ["redis-server", *where, "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder),
             "--logfile", str(self.folder / f"redis-{self.port}.log"), *self.options],
        )  # fmt: skip
        while self.process.poll() is None:
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                if client.info("server")["process_id"] == self.process.pid:
                    return True
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a redis-server with options; ends it after the test."""
    if shutil.which("redis-server") is None:
        missing("redis-server (Debian package redis-server)")
    made: list[RedisServer] = []

    def make(*options: str, **kwargs: Any) -> RedisServer:
        made.append(RedisServer(tmp_path, *options, **kwargs))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(autouse=True)
def patient_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a Redis all the time to answer probes and writes, however busy the machine is."""
    monkeypatch.setattr(client, "BACKGROUND_TIMEOUT_S", PATIENT_S)
    monkeypatch.setattr(rate_limits, "PROBE_TIMEOUT_S", PATIENT_S)


@pytest.fixture
def redis_server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A plain redis-server."""
    return make_redis()


@asynccontextmanager
async def shared_cache(
    url: str, timeout_s: float = PATIENT_S, ttl_s: float = 100 * PATIENT_S
) -> AsyncIterator[SharedCache]:
    """A started cache client; it waits until a test makes it `wait_for` less."""
    cache = SharedCache(url, timeout_s=timeout_s, ttl_s=ttl_s)
    cache.start()
    try:
        yield cache
    finally:
        await cache.stop()


def wait_for(cache: SharedCache, timeout_s: float) -> None:
    """Change how long a cache waits for a read."""
    cache._timeout_s = timeout_s


def hold_up_the_loop(seconds: float) -> None:
    """Let the running event loop's clock go on as if it had been blocked for so long."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + seconds  # type: ignore[method-assign]


async def until(true: Callable[[], bool]) -> None:
    """Let the event loop go on until something is so; pytest's time limit ends what never is."""
    while not true():
        await asyncio.sleep(0.005)


def run(work: Coroutine[Any, Any, Result] | Awaitable[Result]) -> Result:
    """The result of a coroutine on an event loop of its own."""

    async def main() -> Result:
        return await work

    return asyncio.run(main())


@contextmanager
def with_redis(redis_server: RedisServer, **settings: Any) -> Iterator[RunningServer]:
    """A server whose Redis is in use."""
    with running(
        **{
            "redis_url": redis_server.url,
            "redis_timeout_s": PATIENT_S,
            "decode_workers": 1,
            **settings,
        }
    ) as server:
        cache = server.server.cache
        assert cache is not None
        while not cache.up:
            server.client.get("/healthz")
        yield server
