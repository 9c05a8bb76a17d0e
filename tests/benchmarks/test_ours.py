"""What the benchmarks ask our own server, with the tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks import labels, latency, profile_request, serving, start
from benchmarks.lib.clip import another_file, new_labels
from benchmarks.lib.load import served, under_load
from benchmarks.lib.profile_picture import draw
from benchmarks.lib.server_process import ServerProcess, ask, ask_again, our_server
from benchmarks.lib.timing import take_turns
from export.bundle import Bundle
from tests.export.conftest import TINY

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[ServerProcess]:
    patience = ("--request-timeout-s", "3600", "--decode-timeout-s", "3600")
    with our_server(bundle.path, "fp32", *patience) as started:
        yield started


def test_every_file_is_new_and_shows_the_same(server: ServerProcess, clip: bytes) -> None:
    wanted = new_labels(3)
    with httpx.Client(base_url=server.url, timeout=None) as client:
        first, second = (ask(client, another_file(clip), wanted) for _ in range(2))
        again = ask_again(client, first["video_id"], wanted)
    assert first["video_id"] != second["video_id"]
    assert (second["cache"]["video"], again["cache"]["video"]) == ("miss", "hit")
    assert first["predictions"] == second["predictions"] == again["predictions"]
    assert second["cache"]["text_misses"] == 0


def test_the_questions_of_latency(server: ServerProcess, clip: bytes) -> None:
    with httpx.Client(base_url=server.url, timeout=None) as client:
        questions = latency.over_http("fp32", client, clip)
        new, seen, held = (question() for question in questions.values())
        timings = take_turns({latency.BASE: lambda: None} | questions, 1, warm_up=0)
    caches = [(a["cache"]["video"], a["cache"]["text_misses"]) for a in (new, seen, held)]
    assert caches == [("miss", latency.LABELS), ("miss", 0), ("hit", 0)]
    assert len(held["predictions"]) == latency.MANY
    of_first = [row["of_first"] for row in latency.rows_of(timings)]
    assert [share is None for share in of_first] == [True, True, True, False]


def test_labels_by_count(server: ServerProcess, clip: bytes) -> None:
    rows = labels.measure(server, clip, TINY, (2, 20), rounds=1)
    assert [row["labels"] for row in rows] == [2, 20]
    assert rows[1]["gmacs"] > rows[0]["gmacs"]
    assert labels.score_macs(TINY, 3) - labels.score_macs(TINY, 2) == pytest.approx(
        labels.score_macs(TINY, 2) - labels.score_macs(TINY, 1)
    )


def test_load_counts_answers_and_errors(server: ServerProcess, clip: bytes) -> None:
    good = under_load(server.url, lambda c: ask(c, another_file(clip), ["a"]), 3, 0.0, least=2)
    bad = under_load(server.url, lambda c: ask(c, b"no video", ["a"]), 2, 0.0)
    assert (good.answers, good.errors) == (6, 0)
    assert (bad.answers, bad.errors) == (0, 2)
    assert "415" in bad.first_error
    assert served([0.1, 0.3], [], 2.0).clips_per_s == 1.0


def test_our_rate_stands_against_the_best_peer_of_its_precision() -> None:
    keys = ("server", "precision", "labels", "clients", "clips/s")
    rows = [
        dict(zip(keys, values, strict=True))
        for values in (
            (serving.OURS, "fp32", "known", 4, 6.0),
            (serving.OURS, "int8", "known", 4, 20.0),
            ("fastapi", "fp32", "known", 4, 1.5),
            ("litserve", "fp32", "known", 4, 2.0),
            ("litserve", "bf16", "known", 4, 4.0),
        )
    ]
    times = {row["precision"]: row["times"] for row in serving.ratios(rows)}
    assert times == {"fp32": 3.0, "int8": 5.0}


def test_a_profile_becomes_a_picture(bundle: Bundle, clip: bytes, tmp_path: Path) -> None:
    timelines = profile_request.profiled(bundle, "fp32", clip, rounds=1)
    stages = [profile_request.stages_of(spans) for spans in timelines.values()]
    first, *_, last = stages
    assert first["decode"] > 0
    assert first["encode"] > 0
    assert (last["decode"], last["encode"]) == (0, 0)
    assert all(0 <= s[profile_request.BESIDE] <= s["total"] for s in stages)
    operations = profile_request.operations_of(bundle, rounds=1)
    assert operations["MatMul"] > 0
    draw(timelines, operations, tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(PNG)


def test_start_and_memory_of_both(
    bundle: Bundle, folder: Path, clip: bytes, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    peer = start.FirstAnswer(folder, tmp_path / "clip.mp4")
    with peer:
        theirs = peer.memory_mib()
    with our_server(bundle.path, "fp32") as server:
        ours = server.memory_mib()
        assert server.ready_s > 0
    for memory in (theirs, ours):
        assert 0 < memory["pss"] <= memory["rss"]
