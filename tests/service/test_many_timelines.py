"""Eight videos in windows at once: what a client with small clips notices of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from benchmarks.lib.films import Film
from service.settings import Settings
from tests.service.conftest import RunningServer, running, until
from tests.service.test_large_clips import DEFAULTS, LABELS, p99, small_clips

FILM = Film("H.264", 1280, 720, 25, seconds=10, gop=50, noise=2, repeats=6)
AT_ONCE = 8


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The demo as `make serve` starts it."""
    with running(**DEFAULTS, decode_workers=Settings().decode_workers) as started:
        yield started


@pytest.mark.long
@pytest.mark.parametrize("clients", [1, AT_ONCE])
def test_eight_timelines_at_once_hold_up_no_clips_of_another_client(
    clients: int, server: RunningServer
) -> None:
    video = FILM.path().read_bytes()
    first = 20_000 * clients
    quiet = small_clips(server, 100, first)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [
            pool.submit(timeline, server, f"127.0.2.{i % clients}", video) for i in range(AT_ONCE)
        ]
        until(lambda: server.server.engine.pool.running > 0)
        beside: list[float] = []
        while not all(answer.done() for answer in answers):
            beside += small_clips(server, 5, first + 1000 + len(beside))
    windows = [answer.result()["windows"] for answer in answers]
    assert len(windows[0]) > 100
    assert all(one == windows[0] for one in windows)  # nothing is lost
    ratio = p99(beside) / p99(quiet)
    print(
        f"{clients} clients; {len(beside)} small clips: p99 {p99(quiet):.3f} s quiet, "
        f"{p99(beside):.3f} s beside: {ratio:.1f} x"
    )
    assert ratio <= 3


def timeline(server: RunningServer, address: str, video: bytes) -> dict[str, Any]:
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=server.base_url, transport=transport, timeout=None) as client:
        began = time.monotonic()
        response = client.post(
            "/v1/timeline",
            files={"video": ("film", video)},
            data={"labels": LABELS, "window_s": "1", "stride_s": "0.5"},
        )
        assert response.status_code == 200, response.text
        print(f"{address}: {time.monotonic() - began:.1f} s")
        answer: dict[str, Any] = response.json()
        return answer
