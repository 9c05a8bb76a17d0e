"""The whole corpus against a real server, eight uploads at a time, with good clips in between.

Every answer is what the manifest says, good clips get the very answer of a quiet server and not
much later, and what the service uses stays within bounds. Figures go to the log of the long run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import CorpusFile
from tests.service.conftest import PATIENCE
from tests.service.hostile.conftest import MemoryWatch, ServerProcess, Serving

log = logging.getLogger(__name__)

AT_ONCE = 8
GROWTH_PER_WORKER_MIB, SLOWER = 300, 3.0
LABELS = {"labels": '["a cat", "a dog", "juggling", "riding a bike"]'}
MIB = 1 << 20
Upload = tuple[str, str, bytes]  # name in the manifest, name as uploaded, content


@dataclass
class Answer:
    name: str
    status: int
    body: dict[str, Any]
    seconds: float


async def post(client: httpx.AsyncClient, name: str, upload_name: str, data: bytes) -> Answer:
    began = time.monotonic()
    # A value that no server has seen, so that every answer is computed and none remembered.
    fields = LABELS | {"end": f"{100000 + began:.6f}"}
    response = await client.post("/classify", files={"video": (upload_name, data)}, data=fields)
    return Answer(name, response.status_code, response.json(), time.monotonic() - began)


async def together(url: str, uploads: list[Upload]) -> list[Answer]:
    """All uploads, eight at a time, answers in order."""
    gate = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:

        async def one(upload: Upload) -> Answer:
            async with gate:
                return await post(client, *upload)

        return await asyncio.gather(*map(one, uploads))


def essence(answer: Answer) -> dict[str, Any]:
    """An answer without what differs from call to call."""
    return {k: v for k, v in answer.body.items() if k not in ("timing_ms", "video_id", "cache")}


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def complaint(entry: CorpusFile, answer: Answer) -> str:
    """What is wrong with an answer by the manifest; empty where nothing is."""
    expect, text = entry.expect, json.dumps(answer.body)
    if answer.status not in expect["http"] or answer.status >= 500:
        return f"{answer.status} {text[:300]}"
    if "Traceback" in text or "/tmp/" in text or "site-packages" in text:
        return f"tells too much: {text[:300]}"
    if expect["outcome"] == "accept" and answer.status != 200:
        return f"refused: {text[:300]}"
    if expect["outcome"] == "reject" and answer.status == 200:
        return "taken"
    if answer.status != 200 and not answer.body.get("code"):
        return f"no code: {text[:300]}"
    return ""


def sweep(
    server: ServerProcess,
    corpus: list[CorpusFile],
    videos: dict[str, Path],
    rounds: int,
    memory_watch: type[MemoryWatch],
) -> dict[str, Any]:
    good = [(path.name, path.name, path.read_bytes()) for path in sorted(videos.values())]
    asyncio.run(together(server.url, good))
    quiet = asyncio.run(together(server.url, good * max(4 * rounds, 8)))
    assert {a.status for a in quiet} == {200}
    expected = {a.name: essence(a) for a in quiet}
    uploads, entries = [], {}
    for i, entry in enumerate(corpus * rounds):
        entries[entry.name] = entry
        upload_name = entry.entry.get("upload_filename", entry.name)
        uploads.append((entry.name, upload_name, entry.path.read_bytes()))
        if i % 3 == 0:
            uploads.append(good[i // 3 % len(good)])
    root = server.root.pid
    with memory_watch(server) as watch:
        answers = asyncio.run(together(server.url, uploads))
    wrong = [
        f"{a.name}: {fault}"
        for a in answers
        if a.name in entries and (fault := complaint(entries[a.name], a))
    ]
    mixed = [a for a in answers if a.name not in entries]
    wrong += [f"{a.name}: another answer" for a in mixed if essence(a) != expected[a.name]]
    report = {
        "answers": len(answers),
        "by status": dict(Counter(a.status for a in answers)),
        "good, quiet p99 s": round(p99([a.seconds for a in quiet]), 3),
        "good, mixed p99 s": round(p99([a.seconds for a in mixed]), 3),
        "slowest": [
            (a.name, a.status, round(a.seconds, 2))
            for a in sorted(answers, key=lambda a: -a.seconds)[:5]
        ],
        "growth of one process MiB": watch.largest_growth_of_one // MIB,
        "growth of all MiB": watch.largest_growth_of_all // MIB,
        "before MiB": watch.before // MIB,
        "after MiB": sum(server.resident().values()) // MIB,
    }
    log.info("%s", json.dumps(report))
    assert wrong == []
    assert server.root.pid == root
    assert len(server.workers()) == 3
    assert list(server.uploads.iterdir()) == []
    return report


def test_the_corpus_once(
    serving: Serving,
    corpus: list[CorpusFile],
    videos: dict[str, Path],
    memory_watch: type[MemoryWatch],
) -> None:
    with serving(**PATIENCE) as server:
        report = sweep(server, corpus, videos, 1, memory_watch)
    assert report["growth of one process MiB"] <= GROWTH_PER_WORKER_MIB


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_corpus_twenty_times(
    serving: Serving,
    corpus: list[CorpusFile],
    videos: dict[str, Path],
    memory_watch: type[MemoryWatch],
) -> None:
    # The cache of encoded clips is meant to fill; here it would hide what must be given back.
    with serving(video_cache_bytes=1 << 20) as server:
        # What a server settles at after its first hour, not what it had when it was born.
        sweep(server, corpus, videos, 1, memory_watch)
        report = sweep(server, corpus, videos, 20, memory_watch)
        time.sleep(2)
        after = sum(server.resident().values()) // MIB
    assert report["growth of one process MiB"] <= GROWTH_PER_WORKER_MIB
    # Less is no fault: workers that were large have been replaced.
    assert after <= 1.1 * report["before MiB"]
    assert report["good, mixed p99 s"] <= SLOWER * report["good, quiet p99 s"]
