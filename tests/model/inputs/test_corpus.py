"""Every odd, broken and hostile file of the corpus gives what its manifest says, within bounds.

Decoded in processes limited to 2 GiB of address space and 64 MiB per libav allocation.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

# The HTTP status that the service gives to each code of a VideoError.
STATUS = {
    "not_a_video": 415,
    "unsupported_media": 415,
    "resolution_too_large": 413,
    "video_too_long": 413,
    "too_many_frames": 413,
    "too_many_streams": 413,
    "video_undecodable": 422,
    "video_too_short": 422,
}
T = 8


def entries() -> list[dict[str, Any]]:
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("XCLIP_TEST_SHARED", root.parent / "shared")) / "corpus"
    if not folder.is_dir():
        return []
    files: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["files"]
    return files


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e["file"])
def test_corpus_file_gives_what_its_manifest_says(
    entry: dict[str, Any], corpus_answers: dict[str, dict[str, Any]]
) -> None:
    answer, expect = corpus_answers[entry["file"]], entry["expect"]
    assert answer["outcome"] in ("accept", "reject"), answer
    if expect["outcome"] != "accept_or_reject":
        assert answer["outcome"] == expect["outcome"], answer
    if answer["outcome"] == "accept":
        assert 200 in expect["http"]
        check_frames(entry, answer)
    else:
        assert STATUS[answer["code"]] in expect["http"], answer
        assert "/" not in answer["detail"], "a detail names no path"
    bounds = expect.get("bounded", {})
    # Of the processor, so that a busy machine does not decide.
    assert answer["busy_s"] <= bounds.get("wall_s", 10)
    assert answer["growth_mib"] <= bounds.get("rss_growth_mib", 300)


def check_frames(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    expect, frames = entry["expect"], answer["frames"]
    if "frames" in expect:
        assert abs(frames - expect["frames"]) <= expect.get("frames_tolerance", 0)
    assert frames >= expect.get("min_frames", 1)
    assert answer["same_as_full"] in (True, None)
    bars = entry.get("barcode")
    if bars and bars["sequential"]:
        numbers = [(2 * i + 1) * frames // (2 * T) for i in range(T)]
        assert answer["bars"] == [(bars["first"] + n) % 256 for n in numbers]
    times = answer["times"]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < answer["duration_s"]


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("v_rotate90.mp4", 128, 96),
        ("v_rotate180.mp4", 128, 96),
        ("v_sar_4_3.mp4", 128, 96),
        ("v_sar_extreme_mpeg4.avi", 87, 72),
        ("v_h264_lossless_odd_175x131.mp4", 175, 131),
        ("v_tiny_2x2.mp4", 2, 2),
    ],
)
def test_size_is_that_of_the_picture_as_displayed(
    name: str, width: int, height: int, corpus_answers: dict[str, dict[str, Any]]
) -> None:
    answer = corpus_answers[name]
    assert (answer["width"], answer["height"]) == (width, height)


def test_variable_frame_rate_keeps_its_times(corpus_answers: dict[str, dict[str, Any]]) -> None:
    times = corpus_answers["v_vfr.mp4"]["times"]
    steps = {round(b - a, 3) for a, b in pairwise(times)}
    assert len(steps) > 1


@pytest.mark.parametrize("name", ["v_raw.hevc", "v_midstream_res.h264"])
def test_missing_times_are_counted_at_the_nominal_rate(
    name: str, corpus_answers: dict[str, dict[str, Any]]
) -> None:
    answer = corpus_answers[name]
    assert answer["duration_s"] == pytest.approx(answer["frames"] / 25, rel=1e-3)
