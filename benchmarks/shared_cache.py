"""What a Redis costs a fleet: to put and to get the features of a clip, and ten label vectors.

    python -m benchmarks.shared_cache [--records 300] [--rounds 9]

Against a redis-server of its own on 127.0.0.1, in records of X-CLIP B/32 (one view), through the
server's own client. Two clients have them written, whose room is counted. Core time is that of both
sides, ours and Redis' own; memory is what Redis says that it uses more, by record, its keys and
bookkeeping with it.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import redis

from benchmarks.lib.timing import publish
from model.command_line import Parser, whole
from model.inputs import VideoInfo
from service.cache.clips import EncodedClip
from service.cache.redis.client import SharedCache
from service.cache.redis.records import UNSIGNED, ClipForm

VECTOR_LENGTH, PATCHES, FRAMES = 512, 49, 8  # of X-CLIP B/32
FORM = ClipForm({"video": (VECTOR_LENGTH,), "patches": (PATCHES, VECTOR_LENGTH)}, FRAMES)
LABELS = 10  # of a question
KEPT_S = 3600.0

Work = Callable[[SharedCache, int], Awaitable[None]]


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    p = Parser(prog="python -m benchmarks.shared_cache", description=__doc__.splitlines()[0])
    p.add_argument("--records", type=whole(1), default=300, help="of a round (300)")
    p.add_argument("--rounds", type=whole(1), default=9, help="medians are over these (9)")
    return p


@contextmanager
def redis_server() -> Iterator[tuple[str, redis.Redis]]:
    """Start a Redis that keeps nothing on the disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
            "--maxmemory",
            "1gb",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            url = f"redis://127.0.0.1:{port}"
            try:
                yield url, _answering(redis.Redis.from_url(url), server)
            finally:
                server.terminate()


def _answering(client: redis.Redis, server: subprocess.Popen[bytes]) -> redis.Redis:
    while server.poll() is None:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
        else:
            return client
    raise RuntimeError("redis-server ends at once")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[SharedCache]:
    """Open the server's client."""
    cache = SharedCache(url, timeout_s=1.0, ttl_s=KEPT_S)
    cache.start()
    await cache.asked()
    try:
        yield cache
    finally:
        await cache.stop()


def make_clip() -> EncodedClip:
    """Make the features of a clip; random numbers take what others do."""
    draw = np.random.default_rng(0)
    features = {
        name: draw.standard_normal((1, *shape), np.float32) for name, shape in FORM.features.items()
    }
    facts = {
        "duration_s": 10.0, "width": 340, "height": 256, "fps": 30.0, "codec": "h264",
        "frames": 300, "frame_times_s": tuple(float(t) for t in range(FRAMES)),
    }  # fmt: skip
    return EncodedClip(features, VideoInfo.model_validate(facts))


def works() -> dict[str, Work]:
    """Return what is measured: each does record `i` of a round."""
    clip, vector = make_clip(), np.random.default_rng(1).standard_normal(VECTOR_LENGTH, np.float32)

    def clip_key(i: int) -> bytes:
        return f"xclip:clip:4:{'0' * 32}:{i:064x}".encode()

    def label_keys(i: int) -> list[bytes]:
        return [f"xclip:text:4:{'0' * 32}:{i * LABELS + j:064x}".encode() for j in range(LABELS)]

    async def put_clip(cache: SharedCache, i: int) -> None:
        record = UNSIGNED.pack_clip(clip_key(i), clip, FORM)
        cache.put_many({clip_key(i): record}, client=f"{i % 2}")

    async def get_clip(cache: SharedCache, i: int) -> None:
        (record,) = await cache.get_many([clip_key(i)])
        assert record is not None
        UNSIGNED.unpack_clip(clip_key(i), record, FORM)

    async def put_labels(cache: SharedCache, i: int) -> None:
        records = {key: UNSIGNED.pack_vector(key, vector) for key in label_keys(i)}
        cache.put_many(records, client=f"{i % 2}")

    async def get_labels(cache: SharedCache, i: int) -> None:
        for key, record in zip(label_keys(i), await cache.get_many(label_keys(i)), strict=True):
            assert record is not None
            UNSIGNED.unpack_vector(key, record, VECTOR_LENGTH)

    return {
        "put a clip": put_clip,
        "get a clip": get_clip,
        f"put {LABELS} labels": put_labels,
        f"get {LABELS} labels": get_labels,
    }


async def measure(url: str, server: redis.Redis, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each work; what puts is followed by what gets the same."""
    rows = []
    for name, work in works().items():
        puts = (LABELS if "labels" in name else 1) if name.startswith("put") else 0
        seconds, grown = [], 0
        for _ in range(given.rounds):
            if puts:
                server.flushall()
            before = _core_s(server), _memory(server)
            async with connected(url) as cache:
                for i in range(given.records):
                    await work(cache, i)
                    if i % 50 == 49 or i + 1 == given.records:  # what waits is bounded
                        await _written(cache, puts * (i + 1))
            seconds.append((_core_s(server) - before[0]) / given.records)
            grown = _memory(server) - before[1]
        rows.append(
            {
                "what": name,
                "core ms": 1e3 * statistics.median(seconds),
                "bytes a record": grown / given.records / puts if puts else None,
            }
        )
    return rows


async def _written(cache: SharedCache, count: int) -> None:
    """Wait until so many entries have been written."""
    while sum(cache.stats.writes.values()) < count:
        await asyncio.sleep(0.005)
    assert cache.stats.writes["stored"] == count


def _core_s(server: redis.Redis) -> float:
    """Core seconds of this process and of Redis, since each began."""
    used = server.info("cpu")
    return time.process_time() + float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def _memory(server: redis.Redis) -> int:
    return int(server.info("memory")["used_memory"])


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write."""
    given = parser().parse_args(arguments)
    with redis_server() as (url, server):
        rows = asyncio.run(measure(url, server, given))
        version = server.info("server")["redis_version"]
    command = " ".join(["python -m benchmarks.shared_cache", *arguments])
    publish("shared_cache", command, rows, redis=version, records=given.records)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
