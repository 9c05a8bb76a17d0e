"""What phones record and sites hand out, in 4K: each gets an answer with the default settings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from benchmarks.lib.films import Film, phone_film
from service.settings import Settings
from tests.service.conftest import PATIENCE, RunningServer, clip_bytes, running

LABELS = ["a red circle moving left", "arm wrestling"]
UHD = (3840, 2160)
FILMS = {
    "4K30 H.264": phone_film("H.264", UHD, 30),
    "4K30 H.264, x264's own key frames": Film("H.264", *UHD, 30, 250, 10),
    "4K60 10-bit HEVC": phone_film("HEVC 10 bit", UHD, 60),
    "4K30 AV1": Film("AV1", *UHD, 30, 60, 2, 5),
    "4K30 AV1, grain": Film("AV1, grain", *UHD, 30, 60, 2, 5),
    "4K30 VP9": Film("VP9", *UHD, 30, 60, 2, 5),
    "six minutes of 4K60 AV1": Film("AV1", *UHD, 60, 240, 4, 90, noise=0, megabits=4),
    "ten minutes of 1080p, a key frame a minute": Film(
        "H.264", 1920, 1080, 30, 1800, 60, 10, megabits=2
    ),
}
DEFAULTS = {name: Settings.model_fields[name].default for name in PATIENCE}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The demo as `make serve` starts it."""
    workers = Settings().decode_workers
    with running(**DEFAULTS, decode_workers=workers) as started:
        yield started


@pytest.mark.long
@pytest.mark.parametrize("views", [1, 8])
@pytest.mark.parametrize("name", FILMS)
def test_every_clip_gets_an_answer(name: str, views: int, server: RunningServer) -> None:
    content = FILMS[name].path().read_bytes()
    began = time.monotonic()
    answer = server.classify(content, labels=LABELS, views=views)
    assert answer.status_code == 200, answer.text
    video = answer.json()["video"]
    print(f"{name}, {views} views: {time.monotonic() - began:.2f} s, {video['frame_rule']}")
    assert len(video["frame_times_s"]) == 8 * views


@pytest.mark.long
@pytest.mark.parametrize("clients", [1, 8])
def test_eight_large_clips_at_once_hold_up_no_small_ones_of_another_client(
    clients: int, server: RunningServer
) -> None:
    large = FILMS["4K30 H.264"].path().read_bytes()
    first = 10_000 * clients
    quiet = small_clips(server, 40, first)
    with ThreadPoolExecutor(8) as pool:
        answers = [
            pool.submit(posted, server, f"127.0.1.{i % clients}", large + bytes(8 * clients + i))
            for i in range(8)
        ]
        beside: list[float] = []
        while not all(answer.done() for answer in answers):
            beside += small_clips(server, 5, first + 100 + len(beside))
    assert [answer.result().status_code for answer in answers] == [200] * 8
    ratio = p99(beside) / p99(quiet)
    print(
        f"{clients} clients; small clips: p99 {p99(quiet):.3f} s quiet, "
        f"{p99(beside):.3f} s beside: {ratio:.1f} x"
    )
    assert ratio <= 3


def posted(server: RunningServer, address: str, content: bytes, **fields: Any) -> httpx.Response:
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=server.base_url, transport=transport, timeout=None) as client:
        files = {"video": ("clip", content)}
        return client.post("/classify", files=files, data={"labels": LABELS, **fields})


def small_clips(server: RunningServer, count: int, first: int) -> list[float]:
    """Seconds of so many requests of one client, one after the other, each of another clip."""
    seconds = []
    for shade in range(first, first + count):
        content = clip_bytes(shade % 256) + shade.to_bytes(4, "big")
        began = time.monotonic()
        assert posted(server, "127.0.0.2", content).status_code == 200
        seconds.append(time.monotonic() - began)
    return seconds


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[-1]
