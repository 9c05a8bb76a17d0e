"""The page says what the files say, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page
from benchmarks.lib import timing
from benchmarks.lib.bounds import bounds
from benchmarks.lib.goals import goals

MACHINE = {"processor": "a", "processors_used": 2, "python": "3.11", "libraries": {"torch": "2"}}


def report(rows: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    return {"command": "x", "date": "2026-01-01", "machine": MACHINE, **facts, "rows": rows}


REPORTS = {
    "encoder": report(
        [
            {"what": "transformers eager fp32", "median_ms": 10.0, "of_eager": 1.0, "of_peak": 0.5},
            {"what": "onnxruntime-cpu fp32", "median_ms": 8.0, "of_eager": 0.8, "of_peak": 0.6},
            {"what": "openvino fp32", "median_ms": 7.0, "of_eager": 0.7, "of_peak": 0.7},
            {"what": "onnxruntime-cpu int8", "median_ms": 3.0, "of_eager": 0.3, "of_peak": None},
        ]
    ),
    "labels": report(
        [
            {"labels": n, "new_ms": 9.0 * n, "again_ms": ms, "score_ms": ms / 2, "gmacs": n / 10,
             "memory growth MB": n}
            for n, ms in ((10, 5.0), (100, 20.0))
        ]
    ),
    "serving": report(
        [
            {"server": "xclip-serve", "precision": "fp32", "labels": "known", "clients": n,
             "clips/s": rate, "errors": 0, "server_cpu_ms": 500.0, "workers_cpu_ms": 100.0,
             "clients_cpu_ms": 25.0}
            for n, rate in ((1, 3.0), (16, 2.0))
        ],
        encoder_limit_clips_per_s={"fp32": 4.0},
        of_best_peer=[{"precision": "fp32", "labels": "known", "clients": 1, "times": 3.5}],
    ),
}  # fmt: skip


def test_goals_hold_or_do_not_or_are_not_measured() -> None:
    found = {goal.about: goal for goal in goals(REPORTS)}
    share = "video encoder, {}: share of the time of transformers eager fp32"
    assert (found[share.format("fp32")].measured, found[share.format("fp32")].holds) == (0.7, True)
    assert found[share.format("int8")].holds is False
    assert found[share.format("bf16")].holds is None
    assert found["labels, fewest to most: memory growth"].holds is True
    steps = [g for about, g in found.items() if "flat or rising" in about]
    assert [g.holds for g in steps] == [False]
    assert found["our server under load: requests without an answer"].holds is True


def test_bounds_follow_from_peak_and_processor_time() -> None:
    encoder = {**REPORTS["encoder"], "gmacs": 1.0, "matrix_peak_gflops": {"fp32": 400}}
    latency = report(
        [
            {"what": "transformers fp32, in process", "median_ms": 20.0},
            {"what": "fp32, 10 labels never seen", "median_ms": 15.0},
        ]
    )
    found = {b.about: b.best for b in bounds({**REPORTS, "encoder": encoder, "latency": latency})}
    assert found["video encoder, fp32: share of the time of transformers eager fp32"] == 0.5
    # 2e9 operations at 400e9 a second are 5 ms; 400 labels are 40 times 1e9 products, 200 ms.
    assert found["POST /classify, fp32: share of transformers' time in process"] == 0.25
    held = "the same clip by video_id, 400 other known labels: share of the first request, fp32"
    assert found[held] == pytest.approx(200 / 15)
    # Two processors and 625 ms of them for a clip: 3.2 clips a second of the encoder's 4.
    loaded = "clips a second, fp32, 16 clients: share of the encoder's own limit"
    assert found[loaded] == pytest.approx(0.8)


def test_no_bound_is_made_up() -> None:
    assert bounds({}) == []


def test_no_report_leaves_every_goal_open() -> None:
    assert {goal.holds for goal in goals({})} == {None}


def test_the_page_is_written_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "docs" / "benchmarks"
    results.mkdir(parents=True)
    for name, content in REPORTS.items():
        (results / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(page, "RESULTS", results)
    assert page.main() == 0
    text = (results / "cpu.md").read_text()
    assert "**no**" in text
    assert "not measured" in text
    assert "Not run yet: `python -m benchmarks.decode`." in text
    assert "| openvino fp32 | 7 | 0.7 | 0.7 |" in text
    for name in REPORTS:
        assert f"({name}.png)" in text
        assert (results / f"{name}.png").stat().st_size > 1000


def test_without_reports_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert page.main() == 1
    assert not (tmp_path / "cpu.md").exists()


def test_a_report_names_no_folder_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    command = "python -m benchmarks.x /home/somebody/clip.mp4"
    why = {"peer": "no file '/home/somebody/lib/a.so', 3 clips/s"}
    timing.publish("x", command, [{"what": "a", "median_ms": 1.0}], not_run=why)
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["command"] == "python -m benchmarks.x clip.mp4"
    assert written["not_run"] == {"peer": "no file 'a.so', 3 clips/s"}
