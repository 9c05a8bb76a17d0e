"""A Redis that is broken in every way while requests keep coming: nobody notices but the metrics.

pytest tests/service/redis/test_under_load.py -m long -s      shows the figures
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import clip_bytes
from tests.service.redis.conftest import RedisServer
from tests.service.steady_load import (
    Sample,
    SteadyLoad,
    by_label,
    cycle_lists,
    percentile,
    statuses,
)

ROOT = Path(__file__).resolve().parents[3]
LISTS = cycle_lists(20, 16)
PHASE = 400  # requests
TIMEOUT_S = Settings.model_fields["redis_timeout_s"].default


@contextmanager
def server(redis_url: str) -> Iterator[str]:
    """A server process whose own memory of labels is too small to hide Redis; its address."""
    environment = {
        **os.environ,
        "XCLIP_REDIS_URL": redis_url,
        "XCLIP_LABEL_CACHE_BYTES": "1",
        "XCLIP_DECODE_WORKERS": "1",
        "XCLIP_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "service", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found is not None
        try:
            while httpx.get(f"{found[0]}/readyz").json().get("shared_cache") != "up":
                pass
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def fill_with_garbage(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for place, key in enumerate(client.keys("xclip:label:*")):
            client.set(key, os.urandom(60) if place % 2 else b"xcl\x02" + os.urandom(60))


def restart(redis_server: RedisServer) -> None:
    redis_server.kill()
    redis_server.start()


def flush(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.flushall()


FAULTS: list[tuple[str, Callable[[RedisServer], None]]] = [
    ("paused (SIGSTOP)", RedisServer.pause),
    ("continued", RedisServer.resume),
    ("filled with garbage", fill_with_garbage),
    ("flushed", flush),
    ("restarted, empty", restart),
    ("killed", RedisServer.kill),
]


@pytest.mark.long
def test_answers_stay_right_and_quick(redis_server: RedisServer) -> None:
    with server(redis_server.url) as url, httpx.Client(base_url=url, timeout=60) as client:
        first = client.post(
            "/classify", files={"video": ("c", clip_bytes())}, data={"labels": LISTS[0]}
        )
        video = first.json()["video_id"]

        def ask(client: httpx.Client, question: int) -> httpx.Response:
            labels = LISTS[question % len(LISTS)]
            return client.post(
                "/classify", files={"video_id": (None, video)}, data={"labels": labels}
            )

        expected = [by_label(ask(client, n).json()) for n in range(len(LISTS))]

        def wrong(sample: Sample) -> bool:
            given, right = by_label(sample.body), expected[sample.question % len(LISTS)]
            # Which labels were computed together moves the last digits.
            return given.keys() != right.keys() or any(
                abs(given[label] - right[label]) > 1e-4 for label in right
            )

        with SteadyLoad(url, ask) as load:
            load.more(PHASE)
            healthy = load.samples[:PHASE]
            report("healthy", healthy)
            for name, fault in FAULTS:
                began = time.perf_counter()
                fault(redis_server)
                if fault not in (RedisServer.pause, RedisServer.kill):
                    while client.get("/readyz").json()["shared_cache"] != "up":
                        pass
                load.more(PHASE)
                report(name, load.since(began))
                added = percentile(load.since(began), 99) - percentile(healthy, 99)
                assert added <= 1000 * TIMEOUT_S, name
            state = client.get("/readyz").json()["shared_cache"]
        assert statuses(load.samples) == {200: len(load.samples)}
        assert not [sample for sample in load.samples if wrong(sample)]
        assert state == "down: connection"
        metrics = client.get("/metrics").text
        for reason in ("connection", "timeout"):
            counted = re.search(rf'errors_total{{reason="{reason}"}} ([\d.]+)', metrics)
            assert counted is not None
            assert float(counted[1]) > 0, reason
        for reason in ("corrupt", "other_version"):
            counted = re.search(rf'values_total{{reason="{reason}"}} ([\d.]+)', metrics)
            assert counted is not None
            assert float(counted[1]) > 0, reason


def report(phase: str, samples: list[Sample]) -> None:
    print(
        f"{phase:20} {len(samples):5} requests  {dict(statuses(samples))}  "
        f"p50 {percentile(samples, 50):6.1f} ms  p99 {percentile(samples, 99):6.1f} ms  "
        f"max {percentile(samples, 100):6.1f} ms"
    )
