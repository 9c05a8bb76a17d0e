"""Label vectors through a real Redis: exact, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from export.bundle import Bundle, open_bundle
from service.cache.redis.client import KEYS_PER_READ
from service.cache.redis.label_store import SharedLabels
from service.settings import DEMO_BUNDLE
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime
from tests.service.redis.conftest import RedisServer, run, shared_cache, until, with_redis

LABELS = [f"label {i}" for i in range(40)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(DEMO_BUNDLE)


def vectors_for(prompts: list[str], dim: int) -> dict[str, Any]:
    drawn = np.random.default_rng(7).standard_normal((len(prompts), dim), np.float32)
    return dict(zip(prompts, drawn, strict=True))


def test_long_lists_come_back_in_order(redis_server: RedisServer, bundle: Bundle) -> None:
    prompts = [f"prompt {i}" for i in range(2 * KEYS_PER_READ + 3)]
    vectors = vectors_for(prompts, bundle.manifest.text_dim)

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            labels = SharedLabels(cache, bundle, fake_runtime())
            await labels.put_many(vectors)
            await until(lambda: cache.stats.writes["stored"] == len(prompts))
            found = await labels.get_many([*prompts, "never stored"])
            assert found[-1] is None
            for prompt, vector in zip(prompts, found[:-1], strict=True):
                assert vector is not None
                assert vector.tobytes() == vectors[prompt].tobytes()

    run(scenario())
    with redis_server.client() as client:
        shown = b" ".join([*client.keys(), *client.mget(client.keys()[:5])])
        assert b"prompt" not in shown, "labels are nobody's business there"


def test_servers_that_compute_differently_share_nothing(
    redis_server: RedisServer, bundle: Bundle
) -> None:
    vectors = vectors_for(LABELS, bundle.manifest.text_dim)
    other_precision, other_runtime = fake_runtime(), fake_runtime()
    other_precision.precision, other_runtime.name = "bf16", "another"
    files = {**bundle.manifest.files, "text_encoder.onnx": "0" * 64}
    other_weights = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files}))

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            await SharedLabels(cache, bundle, fake_runtime()).put_many(vectors)
            await until(lambda: cache.stats.writes["stored"] == len(LABELS))
            for labels, shared in (
                (SharedLabels(cache, bundle, fake_runtime()), True),
                (SharedLabels(cache, bundle, other_precision), False),
                (SharedLabels(cache, bundle, other_runtime), False),
                (SharedLabels(cache, other_weights, fake_runtime()), False),
            ):
                found = await labels.get_many(LABELS)
                assert [vector is not None for vector in found] == [shared] * len(LABELS)

    run(scenario())


def test_numbers_that_are_none_are_not_stored(redis_server: RedisServer, bundle: Bundle) -> None:
    vectors = vectors_for(LABELS[:2], bundle.manifest.text_dim)
    vectors[LABELS[0]][3] = np.nan

    async def scenario() -> None:
        async with shared_cache(redis_server.url) as cache:
            await until(lambda: cache.up)
            labels = SharedLabels(cache, bundle, fake_runtime())
            await labels.put_many(vectors)
            await until(lambda: cache.stats.writes["stored"] == 1)
            assert [v is None for v in await labels.get_many(LABELS[:2])] == [True, False]

    run(scenario())


# --- whole servers ------------------------------------------------------------------------------


def answer(server: RunningServer, clip: bytes, labels: list[str]) -> tuple[list[Any], int, int]:
    """Predictions, and how many label vectors were known and unknown."""
    response = server.classify(clip, labels=labels)
    assert response.status_code == 200, response.text
    used = response.json()["cache"]
    return response.json()["predictions"], used["text_hits"], used["text_misses"]


def scraped(server: RunningServer, name: str) -> float:
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{name} is not there")


def test_a_second_server_finds_what_the_first_one_computed(redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as first:
        computed, hits, misses = answer(first, clip, LABELS)
        assert (hits, misses) == (0, len(LABELS))
    with with_redis(redis_server) as second:
        found, hits, misses = answer(second, clip, LABELS)
        assert (hits, misses) == (len(LABELS), 0)
        assert scraped(second, 'xclip_shared_cache_values_total{reason="good"}') == len(LABELS)
        assert scraped(second, 'xclip_label_cache_total{result="hit"}') == len(LABELS)
        assert scraped(second, "xclip_shared_cache_up") == 1
    assert found == computed, "to the last bit"


def test_garbage_and_other_versions_are_computed_anew(redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as first:
        computed, _, _ = answer(first, clip, LABELS)
    with redis_server.client() as client:
        for place, key in enumerate(sorted(client.keys("xclip:label:*"))):
            record = client.get(key)
            client.set(
                key,
                [b"garbage", record[:3] + b"\x63" + record[4:], record[:-4] + b"abcd"][place % 3],
            )
    with with_redis(redis_server) as second:
        found, hits, misses = answer(second, clip, LABELS)
        assert (hits, misses) == (0, len(LABELS))
        corrupt = scraped(second, 'xclip_shared_cache_values_total{reason="corrupt"}')
        other = scraped(second, 'xclip_shared_cache_values_total{reason="other_version"}')
        assert corrupt + other == len(LABELS)
        assert other == len(LABELS[1::3])
    assert found == computed
    with with_redis(redis_server) as third:
        assert answer(third, clip, LABELS) == (computed, len(LABELS), 0)


def test_readiness_and_metrics_tell_and_answers_stay(redis_server: RedisServer) -> None:
    clip = clip_bytes()
    with with_redis(redis_server) as server:
        assert server.client.get("/readyz").json()["shared_cache"] == "up"
        computed, _, _ = answer(server, clip, LABELS)
        redis_server.kill()
        _, hits, _ = answer(server, clip, [*LABELS, "one more"])
        assert hits == len(LABELS)
        assert server.client.get("/readyz").status_code == 200
        assert server.client.get("/readyz").json()["shared_cache"] == "down: connection"
        assert scraped(server, "xclip_shared_cache_up") == 0
        assert scraped(server, 'xclip_shared_cache_errors_total{reason="connection"}') >= 1
        assert answer(server, clip, LABELS)[0] == computed
        redis_server.start()
        while server.client.get("/readyz").json()["shared_cache"] != "up":
            pass
        answer(server, clip, ["and another"])
        while scraped(server, 'xclip_shared_cache_writes_total{reason="stored"}') < len(LABELS) + 1:
            pass
