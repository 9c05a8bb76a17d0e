"""Half an hour of everything at once, without Redis and with it: good clips, bad clips, labels,
people who hang up. Nothing grows: memory, descriptors, processes, files.

pytest -m long tests/service/hostile/test_soak.py --log-cli-level INFO     shows the figures
XCLIP_TEST_SOAK_S shortens it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.cache.redis.client import CONNECTIONS
from tests.conftest import CorpusFile
from tests.service.hostile.conftest import ServerProcess, Serving
from tests.service.hostile.load import request, send
from tests.service.redis.conftest import RedisServer

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("XCLIP_TEST_SOAK_S", "1800"))
LOOK_EVERY_S = 2.0
WORDS = (
    "red",
    "blue",
    "dog",
    "cat",
    "running",
    "falling",
    "a man",
    "a child",
    "jumping",
    "cutting",
)
MIB = 1 << 20


@dataclass(frozen=True)
class Sight:
    """What the service uses at one moment."""

    memory_mib: float
    descriptors: int
    processes: int
    files: int


def look(server: ServerProcess) -> Sight:
    processes = [server.root, *server.root.children(recursive=True)]
    memory, descriptors, alive = 0.0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # Each page counted once, however many processes share it.
            memory += process.memory_full_info().pss / MIB
            descriptors += process.num_fds()
            alive += 1
    return Sight(memory, descriptors, alive, len(list(server.uploads.iterdir())))


async def good_clips(
    port: int, videos: dict[str, Path], rng: random.Random, counts: Counter[str]
) -> None:
    clips = [path.read_bytes() for path in videos.values()]
    for i in itertools.count():
        labels = json.dumps(list({f"{rng.choice(WORDS)} {rng.choice(WORDS)}" for _ in range(5)}))
        fields = {"labels": labels, "end": f"{500 + i / 1000:.3f}"}
        outcome = await send(port, request(rng.choice(clips), fields))
        counts[f"good {outcome.status}"] += 1
        if outcome.status == 200:
            known = json.loads(outcome.body)["video_id"]
            again = {"labels": f'["label number {i}", "another"]', "video_id": known}
            counts[f"again {(await send(port, request(b'', again))).status}"] += 1


async def bad_clips(
    port: int, corpus: list[CorpusFile], rng: random.Random, counts: Counter[str]
) -> None:
    while True:
        entry = rng.choice(corpus)
        outcome = await send(port, request(entry.path.read_bytes(), {"labels": "a"}))
        assert outcome.status in entry.expect["http"], entry.name
        counts["corpus"] += 1


async def hang_ups(
    port: int, videos: dict[str, Path], rng: random.Random, counts: Counter[str]
) -> None:
    clips = [path.read_bytes() for path in videos.values()]
    while True:
        data = request(rng.choice(clips), {"labels": "a", "end": f"{rng.uniform(20, 400):.6f}"})
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data[: rng.choice((50, len(data) // 2, len(data)))])
            await asyncio.sleep(rng.uniform(0, 0.3))
        finally:  # also at the end of the test, which cancels this
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        counts["hung up"] += 1
        await asyncio.sleep(0.2)


async def readers(port: int, server: ServerProcess, counts: Counter[str]) -> None:
    while True:
        for address in ("/readyz", "/metrics", "/labels", "/model"):
            response = await asyncio.to_thread(server.client.get, address)
            assert response.status_code == 200, address
            counts["read"] += 1
        await asyncio.sleep(1)


async def mixed(
    server: ServerProcess, videos: dict[str, Path], corpus: list[CorpusFile], counts: Counter[str]
) -> list[Sight]:
    port, rng = int(server.url.rpartition(":")[2]), random.Random(7)
    senders = [
        asyncio.create_task(work)
        for work in (
            good_clips(port, videos, rng, counts),
            good_clips(port, videos, rng, counts),
            bad_clips(port, corpus, rng, counts),
            bad_clips(port, corpus, rng, counts),
            hang_ups(port, videos, rng, counts),
            readers(port, server, counts),
        )
    ]
    sights, end = [], time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_EVERY_S)
            assert not any(task.done() for task in senders), [t for t in senders if t.done()]
            sights.append(await asyncio.to_thread(look, server))
    finally:
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
    return sights


def middle(sights: list[Sight], name: str) -> float:
    values = sorted(getattr(sight, name) for sight in sights)
    return values[len(values) // 2]


@pytest.mark.long
@pytest.mark.timeout(2 * SECONDS + 300)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with Redis and rates"])
def test_nothing_grows(
    shared: bool,
    serving: Serving,
    videos: dict[str, Path],
    corpus: list[CorpusFile],
    redis_server: RedisServer,
) -> None:
    counts: Counter[str] = Counter()
    # Small caches fill early: what grows later is no cache.
    settings: dict[str, Any] = {"video_cache_bytes": 4 << 20, "label_cache_bytes": 1 << 20}
    more = 5
    if shared:
        settings |= {"redis_url": redis_server.url, "rate_limit": "1000000/minute"}
        more += CONNECTIONS  # which stay open
    with serving(**settings) as server:
        asyncio.run(asyncio.wait_for(warmed(server, videos), 300))
        rest = look(server)
        sights = asyncio.run(mixed(server, videos, corpus, counts))
        time.sleep(5)
        after = look(server)
    quarter = len(sights) // 4
    early, late = sights[quarter : 2 * quarter], sights[-quarter:]
    names = ("memory_mib", "descriptors", "processes", "files")
    report = {
        "requests": dict(counts),
        "second quarter": {name: round(middle(early, name), 1) for name in names},
        "last quarter": {name: round(middle(late, name), 1) for name in names},
        "at rest before": asdict(rest),
        "at rest after": asdict(after),
    }
    log.info("%s", json.dumps(report))
    assert not [name for name in counts if name.split()[-1].startswith("5")]
    assert middle(late, "memory_mib") <= 1.1 * middle(early, "memory_mib")
    assert middle(late, "descriptors") <= middle(early, "descriptors") + 5
    assert middle(late, "processes") <= middle(early, "processes")
    assert max(sight.processes for sight in sights) <= rest.processes + 2  # being replaced
    assert after.files == 0
    assert after.descriptors <= rest.descriptors + more
    assert after.processes == rest.processes


async def warmed(server: ServerProcess, videos: dict[str, Path]) -> None:
    port = int(server.url.rpartition(":")[2])
    for i, path in enumerate(list(videos.values()) * 3):
        data = request(path.read_bytes(), {"labels": "a", "end": f"{900 + i}"})
        assert (await send(port, data)).status == 200
