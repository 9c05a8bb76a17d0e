"""Attackers from one address, or one /64, take what they can get; good clients come from another.

pytest -m long tests/service/hostile/test_attacks.py --log-cli-level INFO     shows the figures
XCLIP_TEST_ATTACK_S shortens it. Short forms, which count events: test_one_client_among_many.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle.labels import LabelSet, write_label_set
from export.bundle.manifest import MANIFEST_FILE
from export.bundle.reading import open_bundle
from service.settings import DEMO_BUNDLE, Settings
from tests.memory_limits import most_memory
from tests.service.hostile.conftest import ServerProcess, Serving
from tests.service.hostile.load import Outcome, request, send
from tests.service.hostile.network import in_own_network

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("XCLIP_TEST_ATTACK_S", "30"))
GOOD_CLIENTS = 2
GOOD, GOOD_PAUSE_S, HEALTH_EVERY_S = "127.0.0.3", 0.1, 0.2
LEAST_ANSWERED, MOST_TIMES_SLOWER, HEALTH_WITHIN_S = 0.95, 5, 1.0
MIB = 1 << 20
PREFIX = "2001:db8:0:1:"
MANY_LABELS, BEGINS_ANEW_S = 100_000, 1.0
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


@dataclass
class Seen:
    """What good clients, and who asks for health, got; and the most memory in use."""

    good: list[Outcome] = field(default_factory=list)
    health: list[Outcome] = field(default_factory=list)
    memory: int = 0

    def p99(self, of: list[Outcome]) -> float:
        return float(np.percentile([outcome.seconds for outcome in of], 99))

    @property
    def answered(self) -> float:
        return sum(outcome.status == 200 for outcome in self.good) / len(self.good)


async def watched(server: ServerProcess, clip: bytes, ends: itertools.count[int]) -> Seen:
    """What good clients see for a while."""
    seen, port = Seen(), port_of(server)
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    async def good() -> None:
        while True:
            fields = {"labels": '["a cat", "a dog"]', "end": str(next(ends))}
            seen.good.append(await send(port, request(clip, fields), GOOD))
            await asyncio.sleep(GOOD_PAUSE_S)

    async def healthy() -> None:
        while True:
            seen.health.append(await send(port, health, GOOD))
            await asyncio.sleep(HEALTH_EVERY_S)

    async def memory() -> None:
        while True:
            seen.memory = max(seen.memory, sum((await asyncio.to_thread(server.resident)).values()))
            await asyncio.sleep(0.2)

    watching = [asyncio.create_task(work()) for work in (*(good,) * GOOD_CLIENTS, healthy, memory)]
    await asyncio.sleep(SECONDS)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return seen


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


async def attacked(
    server: ServerProcess, attack: Attack, source: str, files: dict[str, bytes], clip: bytes
) -> tuple[Seen, Seen, Counter[str]]:
    """The same for a quiet server, and for one under attack; and what the attackers were told."""
    ends = itertools.count(1000)
    await send(port_of(server), files["good"], GOOD)  # what comes first is no measure
    quiet = await watched(server, clip, ends)
    ours, theirs = multiprocessing.Pipe()
    arguments = (attack.__name__, port_of(server), source, files, theirs)
    attackers = multiprocessing.get_context("spawn").Process(target=run_attack, args=arguments)
    attackers.start()
    theirs.close()  # so that it is noticed where they fail
    try:
        await asyncio.to_thread(ours.recv)  # they have begun
        await asyncio.sleep(min(5.0, SECONDS / 4))
        seen = await watched(server, clip, ends)
        ours.send(None)
        return quiet, seen, await asyncio.to_thread(ours.recv)
    finally:
        attackers.kill()
        attackers.join()


def run_attack(
    name: str, port: int, source: str, files: dict[str, bytes], pipe: Connection
) -> None:
    """Attack until told to stop: a process of its own, which does not hold up who looks on."""

    async def run() -> None:
        target = Target(port, SOURCES[source], files)
        attack = next(attack for attack in ATTACKS if attack.__name__ == name)
        attacking = asyncio.create_task(attack(target))
        pipe.send(None)
        await asyncio.to_thread(pipe.recv)
        assert not attacking.done(), attacking
        pipe.send(target.answers)

    asyncio.run(run())


@pytest.fixture(scope="module")
def dear(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some kilobytes that need longer than a clip may: one key frame, all others lean on it."""
    path = tmp_path_factory.mktemp("dear") / "dear.mp4"
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "color=gray:size=1920x1080:rate=60",
         "-t", "95", "-c:v", "libx264", "-preset", "ultrafast", "-g", "100000", str(path)],
        check=True,
    )  # fmt: skip
    return path.read_bytes()


@pytest.fixture(scope="module")
def big_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with a stored list of a hundred thousand labels."""
    folder = Path(shutil.copytree(DEMO_BUNDLE, tmp_path_factory.mktemp("bundles") / "big"))
    dim = open_bundle(folder, check_files=False).manifest.text_dim
    labels = tuple(f"a label of the number {n}" for n in range(MANY_LABELS))
    vectors = np.random.default_rng(0).normal(size=(MANY_LABELS, dim)).astype(np.float32)
    info = write_label_set(folder, "big", LabelSet(labels, labels, vectors))
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["labels"]["big"] = info.model_dump()
    for file in (info.vectors, info.prompts):
        manifest["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return folder


@pytest.mark.long
@pytest.mark.timeout(600 + 4 * SECONDS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_good_clients_are_served_all_the_same(
    serving: Serving, videos: dict[str, Path], dear: bytes, big_bundle: Path, attack: Attack,
    source: str,
) -> None:  # fmt: skip
    clip = videos["arm_wrestling"].read_bytes()
    bundle = big_bundle if attack is slow_readers else DEMO_BUNDLE

    def run() -> tuple[Seen, Seen, Counter[str]]:
        with serving(host="::", bundle=bundle) as server:
            known = request(clip, {"labels": '["a"]'})
            files = {"dear": dear, "good": known, "clip": clip}
            return asyncio.run(attacked(server, attack, source, files, clip))

    quiet, seen, answers = in_own_network(run)
    allowed = most_memory(Settings(bundle=bundle, decode_workers=2))
    times = seen.p99(seen.good) / quiet.p99(quiet.good)
    log.info(
        "%s from %s | %.1f %% of %d answered | p99 %.2f s, quiet %.2f s: %.1f times | /healthz p99 "
        "%.0f ms | %d MiB, allowed %d | attackers heard %s",
        attack.__name__.replace("_", " "), source, 100 * seen.answered, len(seen.good),
        seen.p99(seen.good), quiet.p99(quiet.good), times, 1000 * seen.p99(seen.health),
        seen.memory // MIB, allowed // MIB, dict(answers),
    )  # fmt: skip
    assert quiet.answered == 1
    assert seen.answered >= LEAST_ANSWERED, Counter(outcome.status for outcome in seen.good)
    assert times <= MOST_TIMES_SLOWER
    assert {outcome.status for outcome in seen.health} == {200}
    assert seen.p99(seen.health) <= HEALTH_WITHIN_S
    assert seen.memory <= allowed
