"""Attackers: what they send, and from where. `test_attacks.py` looks at what others feel of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.service.hostile.load import request, send

PREFIX = "2001:db8:0:1:"
BEGINS_ANEW_S = 1.0
HANGUL = range(0xAC00, 0xD7A4)


@dataclass
class Target:
    """What attackers know: where the server is, from where they come, and what they may send."""

    port: int
    sources: Callable[[], str]
    files: dict[str, bytes]
    answers: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def connected(
        self, data: bytes
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that has sent this, dropped at the end of the block."""
        source = self.sources()
        six = ":" in source
        made = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        try:
            made.bind((source, 0))
            where = ("::1" if six else "127.0.0.1", self.port)
            await asyncio.get_running_loop().sock_connect(made, where)
        except BaseException:
            made.close()
            raise
        reader, writer = await asyncio.open_connection(sock=made, limit=1 << 12)
        try:
            writer.write(data)
            yield reader, writer
        finally:
            writer.transport.abort()

    async def again_and_again(
        self, count: int, one: Callable[[], Awaitable[object]], pause_s: float = 0
    ) -> None:
        """So many attackers, each of whom begins anew when he was answered or thrown out."""

        async def attacker() -> None:
            while True:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                    await one()
                await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(attacker())

    async def known(self) -> dict[str, str]:
        """The field that names a clip the server has."""
        answer = await send(self.port, self.files["good"])
        return {"video_id": json.loads(answer.body)["video_id"]}

    async def ask(self, data: bytes, patience_s: float) -> None:
        """Send a request, wait so long for an answer, and hang up."""
        async with self.connected(data) as (reader, _), asyncio.timeout(patience_s):
            status = (await reader.readuntil(b"\r\n")).split()[1].decode()
            self.answers[status] += 1
            await reader.read(-1)


Attack = Callable[[Target], Coroutine[Any, Any, None]]
FORM = b"multipart/form-data; boundary=b"
HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: " + FORM + b"\r\n"


async def small_forms(target: Target) -> None:
    labels = ("labels", json.dumps([str(n) for n in range(10_000)]))
    templates = [("template", "é" * 290 + f"{n:02} {{}}") for n in range(16)]
    known = await target.known()
    form = request(b"", [labels, *templates, *known.items()])
    await target.again_and_again(6, lambda: target.ask(form, 0.3))


async def large_forms(target: Target) -> None:
    labels = [f"\U0001f600 {n} " + "label " * 46 for n in range(10_000)]
    fields = {"labels": json.dumps(labels, ensure_ascii=False)} | await target.known()
    form = request(b"", fields)
    await target.again_and_again(6, lambda: target.ask(form, 1.0))


async def dear_clips(target: Target) -> None:
    ends = itertools.count(100)

    async def one() -> None:
        fields = {"labels": '["a"]', "end": str(next(ends)), "frame_rule": "exact"}
        await target.ask(request(target.files["dear"], fields), 3600)

    await target.again_and_again(64, one)


async def idle_connections(target: Target) -> None:
    async def one() -> None:
        ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        async with target.connected(ask) as (reader, writer):
            while await reader.read(4096):
                await asyncio.sleep(9)
                writer.write(ask)

    await target.again_and_again(1100, one, BEGINS_ANEW_S)


async def slow_readers(target: Target) -> None:
    classify = request(b"", {"label_set": "big"} | await target.known())
    asked = itertools.cycle((b"GET /labels/big HTTP/1.1\r\nHost: x\r\n\r\n", classify))

    async def one() -> None:
        async with target.connected(next(asked)) as (reader, _):
            while await reader.read(1):
                await asyncio.sleep(1)

    await target.again_and_again(100, one, BEGINS_ANEW_S)


async def slow_uploads(target: Target) -> None:
    async def one() -> None:
        async with target.connected(HEAD + b"Content-Length: 100000\r\n\r\n--b\r\n") as (_, writer):
            while not writer.transport.is_closing():
                await asyncio.sleep(6)
                writer.write(b"x")

    await target.again_and_again(500, one, BEGINS_ANEW_S)


async def many_parts(target: Target) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n\r\n' * 10_060 + b"--b--\r\n"
    )
    form = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    await target.again_and_again(30, lambda: target.ask(form, 3600))


async def refused_labels(target: Target) -> None:
    draw, known = random.Random(1), await target.known()

    async def one() -> None:
        words = ["".join(map(chr, draw.choices(HANGUL, k=298))) for _ in range(512)]
        fields = {"labels": json.dumps(words, ensure_ascii=False)} | known
        await target.ask(request(b"", fields), 3600)

    await target.again_and_again(8, one)


async def hung_up_timelines(target: Target) -> None:
    ends = itertools.count(100)

    async def one() -> None:
        fields = {"labels": '["a"]', "window_s": "0.2", "end": str(next(ends))}
        asked = request(target.files["clip"], fields)
        asked = asked.replace(b"POST /classify", b"POST /timeline", 1)
        asked = asked.replace(b"Connection:", b"Accept: application/x-ndjson\r\nConnection:", 1)
        async with target.connected(asked) as (reader, _):
            await reader.readuntil(b'"facts"')
            target.answers["begun"] += 1

    await target.again_and_again(16, one)


async def quick_requests(target: Target) -> None:
    """What costs little, one upon the other on connections that stay open."""
    paths = itertools.cycle(("/model", "/labels", "/", "/openapi.json", "/nothing"))

    async def one() -> None:
        ask = f"GET {next(paths)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        async with target.connected(ask) as (reader, writer):
            while head := await reader.readuntil(b"\r\n\r\n"):
                target.answers[head.split()[1].decode()] += 1
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(ask)

    await target.again_and_again(400, one)


async def dropped_clips(target: Target) -> None:
    """Clips and timelines that nobody waits for as soon as a worker is at them."""
    draw, ends = random.Random(1), itertools.count(100)

    async def one() -> None:
        fields = {"labels": '["a"]', "end": str(next(ends)), "frame_rule": "exact"}
        asked = request(target.files["dear"], fields)
        path = draw.choice((b"/classify", b"/timeline"))
        await target.ask(asked.replace(b"/classify", path, 1), draw.choice((0.05, 0.3, 0.6, 1.0)))

    await target.again_and_again(16, one)


async def new_texts(target: Target) -> None:
    numbers = itertools.count()

    async def one() -> None:
        body = json.dumps({"input": [f"thing {next(numbers)}" for _ in range(100)]}).encode()
        head = HEAD.replace(b"/classify", b"/embeddings").replace(FORM, b"application/json")
        head += b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        await target.ask(head + body, 3600)

    await target.again_and_again(8, one)


ATTACKS: list[Attack] = [
    small_forms, large_forms, dear_clips, idle_connections, slow_readers, slow_uploads, many_parts,
    refused_labels,
    hung_up_timelines, quick_requests, dropped_clips, new_texts,
]  # fmt: skip
SOURCES: dict[str, Callable[[], str]] = {
    "one address": lambda: "127.0.0.2",
    "one /64": lambda: PREFIX + ":".join(f"{random.randrange(1 << 16):x}" for _ in range(4)),
}
