"""A Redis that answers anything at all: a miss each time, never an error of a request."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from service.cache.redis.client import SharedCache
from tests.service.conftest import clip_bytes, fake_runtime, running
from tests.service.redis.conftest import PATIENT_S, RedisServer, run, until, wait_for

KEYS = [b"one", b"two"]
ABSENT = b"*2\r\n$-1\r\n$-1\r\n"
NAN = np.full(64, np.nan, np.float32).tobytes()


def bulk(content: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(content), content)


REPLIES = {
    "simple string": b"+OK\r\n",
    "integer": b":1\r\n",
    "bulk string": bulk(b"value"),
    "no string": b"$-1\r\n",
    "no array": b"*-1\r\n",
    "empty array": b"*0\r\n",
    "too few": b"*1\r\n$-1\r\n",
    "too many": b"*3\r\n" + 3 * b"$-1\r\n",
    "integers": b"*2\r\n:5\r\n:6\r\n",
    "arrays": b"*2\r\n*1\r\n:5\r\n*0\r\n",
    "error within": b"*2\r\n$-1\r\n-ERR no\r\n",
    "error": b"-ERR no\r\n",
    "moved": b"-MOVED 3999 127.0.0.1:6381\r\n",
    "map": b"%1\r\n+a\r\n:1\r\n",
    "set": b"~2\r\n:1\r\n:2\r\n",
    "push": b">2\r\n+a\r\n+b\r\n",
    "double": b",1.5\r\n",
    "true": b"#t\r\n",
    "null": b"_\r\n",
    "big number": b"(3492890328409238509324850943850943825024385\r\n",
    "verbatim": b"=7\r\ntxt:abc\r\n",
    "huge array": b"*2000000000\r\n",
    "huge array in two": b"*20000|00000\r\n",
    "array of a huge array": b"*1\r\n*2000000000\r\n",
    "ten million nothings": b"*10000000\r\n" + 100_000 * b"$-1\r\n",
    "huge string": b"$2000000000\r\nabc",
    "negative": b"*-7\r\n",
    "no number": b"*x\r\n",
    "endless line": b"+" + 100_000 * b"a",
    "rubbish": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "nothing": b"",
    "values of no record": b"*2\r\n" + bulk(b"xcr\x03" + NAN) + bulk(NAN),
}


class Answering:
    """A server that answers MGET with `reply`, and everything else with OK."""

    def __init__(self) -> None:
        self.reply, self.asked = ABSENT, 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while (words := await self._command(reader)) is not None:
                is_read = words[0].upper() == b"MGET"
                self.asked += is_read
                reply = self._reply(words) if is_read else b"+OK\r\n"
                for piece in reply.split(b"|"):
                    writer.write(piece)
                    await writer.drain()
                if is_read and not reply:
                    break
        writer.close()

    def _reply(self, words: list[bytes]) -> bytes:
        count = len(words) - 1
        if self.reply == ABSENT or b"xclip:probe" in words[1]:
            return b"*%d\r\n" % count + count * b"$-1\r\n"
        return self.reply

    async def _command(self, reader: asyncio.StreamReader) -> list[bytes] | None:
        line = await reader.readline()
        if not line:
            return None
        words = []
        for _ in range(int(line[1:])):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2))[:-2])
        return words

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server


@contextlib.contextmanager
def answering() -> Iterator[Answering]:
    """The server on a thread of its own."""
    server, loop, up = Answering(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        listening = await server.start()
        up.set()
        async with listening:
            await stopped.wait()

    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    up.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


@contextlib.asynccontextmanager
async def in_use(url: str) -> AsyncIterator[SharedCache]:
    cache = SharedCache(url, timeout_s=PATIENT_S, ttl_s=60)
    cache.start()
    try:
        await until(lambda: cache.up)
        yield cache
    finally:
        await cache.stop()


@pytest.mark.parametrize("name", REPLIES)
def test_any_reply_is_a_miss(name: str) -> None:
    async def scenario(server: Answering) -> None:
        async with in_use(server.url) as cache:
            server.reply = REPLIES[name]
            wait_for(cache, 0.2)  # some replies have no end
            values = await cache.get_many(KEYS)
            wait_for(cache, PATIENT_S)
            if name != "values of no record":
                assert values == [None, None]
                assert cache.stats.reads["failed"] == 2
            server.reply = ABSENT
            if name != "moved":
                await until(lambda: cache.up)
                assert await cache.get_many(KEYS) == [None, None]
                assert cache.stats.reads["absent"] >= 2

    with answering() as server:
        run(scenario(server))


@pytest.mark.parametrize("name", ["integer", "integers", "huge array", "values of no record"])
def test_requests_are_answered_whatever_redis_says(name: str) -> None:
    with (
        answering() as redis,
        running(fake_runtime(), redis_url=redis.url, redis_timeout_s=0.2) as server,
    ):
        cache = server.server.cache
        assert cache is not None
        redis.reply = REPLIES[name]
        for shade in range(3):
            while not cache.up:
                server.client.get("/healthz")
            labels = [f"a {shade}", f"b {shade}"]
            answer = server.classify(clip_bytes(shade), labels=labels)
            assert answer.status_code == 200, answer.text
        assert redis.asked >= 4  # by a probe, and for each clip or its labels


def lines_of(capture: Any) -> list[dict[str, Any]]:
    return [entry for entry in capture if "shared cache" in entry["event"]]


def test_a_cluster_is_recognised_once_and_said_once(
    make_redis: Callable[..., RedisServer],
) -> None:
    redis = make_redis("--cluster-enabled", "yes")
    with redis.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            pass

    async def scenario() -> None:
        cache = SharedCache(redis.url, timeout_s=PATIENT_S, ttl_s=60)
        cache.start()
        await cache.asked()
        assert cache.state == "down: cluster"
        for _ in range(3):
            assert await cache.get_many(KEYS) == [None, None]
            cache.put_many({b"one": b"1"})
        await cache.stop()
        assert cache.stats.errors["cluster"] == 1
        assert cache.stats.reads["skipped"] == 6

    with capture_logs() as logs:
        run(scenario())
    assert [entry["log_level"] for entry in lines_of(logs)] == ["warning"]
    assert "Redis Cluster" in lines_of(logs)[0]["event"]
