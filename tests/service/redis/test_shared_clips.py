"""Clip features through a real Redis: a second server decodes and encodes nothing, or all of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from export.bundle import Bundle, open_bundle
from export.runtime import FakeRuntime
from service.cache.clips import EncodedClip
from service.cache.redis.clip_store import MAX_CLIP_BYTES, SharedClips
from service.cache.redis.records import ClipForm
from service.cache.redis.write_behind import BYTES_PER_WRITE
from service.settings import DEMO_BUNDLE
from tests.service.conftest import RunningServer, clip_bytes
from tests.service.conftest import until as until_now
from tests.service.redis.conftest import (
    HASTY_S,
    RedisServer,
    run,
    shared_cache,
    until,
    wait_for,
    with_redis,
)
from tests.service.redis.encoded_clips import encoded, same

LABELS = ["a red circle moving left", "a blue square growing"]
CLIPS = "xclip:clip:*"


# --- the store ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(DEMO_BUNDLE)


def bundle_clip(bundle: Bundle, views: int = 1, seed: int = 0) -> EncodedClip:
    outputs = bundle.manifest.graphs["video_encoder"].outputs
    shapes: Any = {out.name: out.shape[1:] for out in outputs}
    return encoded(ClipForm(shapes, bundle.manifest.inputs.num_frames), views, seed)


def a_runtime(bundle: Bundle, name: str = "x", precision: str = "fp32") -> FakeRuntime:
    runtime = FakeRuntime(bundle.manifest.inputs)
    runtime.name, runtime.precision = name, precision
    return runtime


def test_servers_that_compute_differently_share_nothing(
    redis_server: RedisServer, bundle: Bundle
) -> None:
    clip, identity = bundle_clip(bundle), "0" * 32
    others = {
        "bundle": (replace(bundle, hash="0" * 64), a_runtime(bundle)),
        "precision": (bundle, a_runtime(bundle, precision="bf16")),
        "runtime": (bundle, a_runtime(bundle, name="y")),
    }

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            await SharedClips(cache, bundle, a_runtime(bundle), 60).put(identity, clip)
            await until(lambda: cache.stats.writes["stored"] == 1)
            found = await SharedClips(cache, bundle, a_runtime(bundle), 60).get(identity)
            assert same(found, clip)
            for what, (other, runtime) in others.items():
                assert await SharedClips(cache, other, runtime, 60).get(identity) is None, what
            assert cache.stats.clips == {"good": 1, "other_version": 0, "corrupt": 0}

    run(scenario())


def test_clips_are_forgotten_in_their_own_time(redis_server: RedisServer, bundle: Bundle) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url, ttl_s=5000) as cache:
            await until(lambda: cache.up)
            clips = SharedClips(cache, bundle, a_runtime(bundle), 3000)
            await clips.put("0" * 32, bundle_clip(bundle))
            cache.put_many({b"label": b"vector"})
            await until(lambda: cache.stats.writes["stored"] == 2)

    run(scenario())
    with redis_server.client() as client:
        (key,) = client.keys(CLIPS)
        assert 1000 < client.ttl(key) <= 3000
        assert 3000 < client.ttl("label") <= 5000


def test_a_clip_that_is_too_large_stays_here(redis_server: RedisServer, bundle: Bundle) -> None:
    one = bundle_clip(bundle).nbytes
    views = 2 * MAX_CLIP_BYTES // one

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            clips = SharedClips(cache, bundle, a_runtime(bundle), 60)
            await clips.put("0" * 32, bundle_clip(bundle, views))
            await clips.put("1" * 32, bundle_clip(bundle))
            await until(lambda: cache.stats.writes["stored"] == 1)
            assert await clips.get("0" * 32) is None
            assert await clips.get("1" * 32) is not None

    run(scenario())


def test_many_large_clips_are_written_a_few_at_a_time(
    redis_server: RedisServer, bundle: Bundle
) -> None:
    """So that the reads of requests never wait behind a long write."""
    views = 300
    clips = {f"{i:032}": bundle_clip(bundle, views, seed=i) for i in range(4)}
    assert sum(clip.nbytes for clip in clips.values()) > BYTES_PER_WRITE

    async def scenario() -> list[int]:
        sizes: list[int] = []
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            write = cache._writer._write

            async def spied(batch: Any) -> str | None:
                sizes.append(sum(len(entry.value) for entry in batch.values()))
                return await write(batch)

            cache._writer._write = spied
            store = SharedClips(cache, bundle, a_runtime(bundle), 60)
            for identity, clip in clips.items():
                await store.put(identity, clip)
            await until(lambda: cache.stats.writes["stored"] == len(clips))
            for identity, clip in clips.items():
                assert same(await store.get(identity), clip)
        return sizes

    sizes = run(scenario())
    assert len(sizes) > 1
    assert max(sizes) <= BYTES_PER_WRITE


# --- whole servers ------------------------------------------------------------------------------


def ask(server: RunningServer, video: bytes | None, **fields: Any) -> httpx.Response:
    response = server.classify(video, labels=LABELS, **fields)
    assert response.status_code == 200, response.text
    return response


def scraped(server: RunningServer, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    (value,) = (line.rpartition(" ")[2] for line in lines if line.startswith(name + " "))
    return float(value)


def decoded(server: RunningServer) -> int:
    trial = 1  # the sample clip of the start
    return server.server.engine.pool.stats.decoded - trial


def stored(server: RunningServer, values: int = len(LABELS) + 1) -> None:
    """Wait until so many values are written: by default the labels' and one clip's."""
    cache = server.server.cache
    assert cache is not None
    while cache.stats.writes["stored"] < values:
        server.client.get("/healthz")


def test_a_second_server_decodes_and_encodes_nothing(redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as first, with_redis(redis_server) as second:
        computed = ask(first, clip).json()
        assert computed["cache"]["video"] == "miss"
        stored(first)
        by_id = ask(second, None, video_id=computed["video_id"]).json()
        by_bytes = ask(second, clip).json()
        assert decoded(second) == 0
        for found in (by_id, by_bytes):
            assert found["cache"]["video"] == "hit"
            assert found["predictions"] == computed["predictions"], "to the last bit"
            assert found["video"] == computed["video"]
            assert found["video_id"] == computed["video_id"]
            assert found["timing_ms"]["decode"] == found["timing_ms"]["encode"] == 0
        # The second question was answered from the server's own memory.
        assert scraped(second, 'xclip_shared_cache_clips_total{reason="good"}') == 1
        other_part = ask(second, clip, end="1.5").json()
        assert other_part["cache"]["video"] == "miss"
        assert decoded(second) == 1


def flush(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.flushall()


def damage(redis_server: RedisServer, change: Callable[[bytes], bytes]) -> None:
    with redis_server.client() as client:
        keys = client.keys(CLIPS)
        assert keys
        for key in keys:
            client.set(key, change(client.get(key)))


FAULTS: dict[str, Callable[[RedisServer], None]] = {
    "garbage": lambda server: damage(server, lambda _: b"garbage"),
    "one bit": lambda server: damage(server, lambda r: r[:-1] + bytes([r[-1] ^ 1])),
    "cut short": lambda server: damage(server, lambda r: r[: len(r) // 2]),
    "another version": lambda server: damage(server, lambda r: r[:3] + b"\x63" + r[4:]),
    "flushed": flush,
    "suspended": RedisServer.pause,
    "killed": RedisServer.kill,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_redis_is_like_the_answer_is_right(fault: str, redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as first:
        computed = ask(first, clip).json()
        stored(first)
    with with_redis(redis_server) as second:
        FAULTS[fault](redis_server)
        if fault == "suspended":
            assert second.server.cache is not None
            wait_for(second.server.cache, HASTY_S)
        unknown = second.classify(None, labels=LABELS, video_id=computed["video_id"])
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_video_id")
        found = ask(second, clip).json()
        assert found["cache"]["video"] == "miss"
        assert decoded(second) == 1
        assert found["predictions"] == computed["predictions"]
        assert ask(second, None, video_id=computed["video_id"]).json()["cache"]["video"] == "hit"
        if fault == "another version":
            assert scraped(second, 'xclip_shared_cache_clips_total{reason="other_version"}') == 2
        if fault in ("garbage", "one bit", "cut short"):
            assert scraped(second, 'xclip_shared_cache_clips_total{reason="corrupt"}') == 2


def test_another_clip_under_the_key_is_not_taken(redis_server: RedisServer) -> None:
    """Values that are whole and stand in the wrong place."""
    one, other = clip_bytes(1), clip_bytes(2)
    with with_redis(redis_server) as first:
        answers = [ask(first, video).json() for video in (one, other)]
        stored(first, len(LABELS) + 2)
    with redis_server.client() as client:
        a, b = client.keys(CLIPS)
        values = client.mget(a, b)
        client.mset({a: values[1], b: values[0]})
    with with_redis(redis_server) as second:
        again = [ask(second, video).json() for video in (one, other)]
        assert decoded(second) == 2
    assert [a["predictions"] for a in again] == [a["predictions"] for a in answers]


def test_a_redis_that_is_full_costs_speed_alone(make_redis: Callable[..., RedisServer]) -> None:
    full = make_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    with with_redis(full) as first, with_redis(full) as second:
        for server in (first, second):
            assert ask(server, clip_bytes()).json()["cache"]["video"] == "miss"


def test_sharing_of_clips_can_be_turned_off(redis_server: RedisServer) -> None:
    with with_redis(redis_server, redis_clip_ttl_s=0) as server:
        ask(server, clip_bytes())
        stored(server, len(LABELS))
    with redis_server.client() as client:
        assert client.keys("xclip:label:*")
        assert not client.keys(CLIPS)


def test_many_that_ask_at_once_for_a_shared_clip_read_it_once(redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as first:
        ask(first, clip)
        stored(first)
    with (
        with_redis(redis_server) as second,
        concurrent.futures.ThreadPoolExecutor(6) as threads,
    ):
        answers = list(threads.map(lambda _: ask(second, clip).json(), range(12)))
        assert {answer["cache"]["video"] for answer in answers} == {"hit"}
        assert decoded(second) == 0


# --- forgetting ---------------------------------------------------------------------------------


def test_a_clip_is_forgotten_in_redis_too(redis_server: RedisServer) -> None:
    with with_redis(redis_server) as one, with_redis(redis_server) as other:
        clip = clip_bytes(7)
        stored = one.classify(clip, labels="a").json()["video_id"]
        with redis_server.client() as client:
            until_now(lambda: bool(client.keys(CLIPS)))
            assert other.client.delete(f"/v1/videos/{stored}").status_code == 204
            assert client.keys(CLIPS) == []
        assert other.classify(None, video_id=stored, labels="a").status_code == 404


def test_one_that_waits_to_be_written_is_not_written(
    redis_server: RedisServer, bundle: Bundle
) -> None:
    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            clips = SharedClips(cache, bundle, a_runtime(bundle), 60)
            async with cache._writing:  # as while another batch is written
                await clips.put("0" * 32, bundle_clip(bundle))
                await clips.put("1" * 32, bundle_clip(bundle))
                gone = asyncio.ensure_future(clips.forget("1" * 32))
            assert await gone
            await until(lambda: cache.stats.writes["stored"] > 0)
            assert await clips.get("0" * 32) is not None
            assert await clips.get("1" * 32) is None

    run(scenario())


def test_whoever_cannot_be_sure_says_so(redis_server: RedisServer) -> None:
    with with_redis(redis_server) as server:
        redis_server.kill()
        answer = server.client.delete(f"/v1/videos/{'0' * 32}")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.headers["retry-after"] == "5"


def test_a_hung_redis_is_waited_for_once_however_many_ask(redis_server: RedisServer) -> None:
    """Each of hundreds would wait for all before it, and what is to be written behind them."""

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            tried = 0

            async def hang(key: bytes) -> None:
                nonlocal tried
                tried += 1
                raise TimeoutError

            cache._delete = hang  # type: ignore[method-assign]
            async with cache._writing:
                asked = [asyncio.ensure_future(cache.delete(b"%d" % key)) for key in range(9)]
                await asyncio.sleep(0)
            assert await asyncio.gather(*asked) == [False] * 9
            assert tried == 1

    run(scenario())
