"""The benchmarks of decoding: who is held against whom, and what a run leaves to the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import pytest

from benchmarks import decode, frame_rule
from benchmarks.lib.decoder_alone import decoder_alone
from model.inputs import FrameRule, InputSpec, decode_clip

SPEC = InputSpec(num_frames=8, image_size=32, resize_short_side=32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds with a key frame a second."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    options = {"preset": "ultrafast", "g": "25", "bf": "2", "sc_threshold": "0"}
    moving = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(np.roll(moving, number, axis=1))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rule", FrameRule)
def test_the_decoder_alone_decodes_what_ours_does(film: Path, rule: FrameRule) -> None:
    alone = decoder_alone(film, SPEC, rule)
    assert alone is not None
    with film.open("rb") as source:
        work = decode_clip(source, SPEC, frame_rule=rule).work
    assert work is not None
    assert alone() == alone() == work.pictures


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "KEPT", tmp_path)
    unit: decode.Unit = {"readers": {"ours": 1.5}, "not run": {"decord": "ImportError"}}

    def again() -> NoReturn:
        raise AssertionError

    assert decode.kept(tmp_path / "a.json", lambda: unit) == unit
    assert decode.kept(tmp_path / "a.json", again) == unit


def test_ours_is_held_against_the_best_peer_and_the_decoder_alone() -> None:
    film = next(f for f in decode.FILMS if f.height == 2160)
    times = {
        decode.OURS: 100.0,
        decode.OURS_KEYED: 20.0,
        decode.ALONE: 80.0,
        decode.ALONE_KEYED: 12.0,
        "torchcodec, exact": 125.0,
        "OpenCV, seeking": 200.0,
    }
    row = decode.row_of(film, 1, times)
    assert (row["best peer"], row["exact, of peer"]) == ("torchcodec, exact", 0.8)
    assert (row["keyframes, of peer"], row["keyframes, of exact"]) == (0.16, 0.2)
    figures = decode.figures_of([row, decode.row_of(film, 2, times | {decode.OURS: 150.0})], None)
    assert figures["exact_of_best_peer"] == 1.2
    assert figures["exact_of_best_peer_where"] == f"{film.name}, 2 threads"
    assert figures["keyframes_of_exact_decoder_alone"] == 0.15
    assert figures["ten_minutes_of_full_decode"] is None


def test_the_goal_is_about_clips_that_all_have_a_key_frame_a_second() -> None:
    forms = [f"{codec}, {group}" for codec, group in frame_rule.FORMS]
    of_all = set(map(tuple, (frame_rule.forms_of(n) for n in range(1, 10))))
    assert of_all == {tuple(f for f in frame_rule.FORMS if f[1] == frame_rule.OFTEN)}
    assert tuple(frame_rule.forms_of(0)) == frame_rule.FORMS
    answer = {"exact": ["a", "b"], "keyframes": ["a", "c"], "cosine": 0.5, "seconds": [2.0, 1.0]}
    answers = [{"number": n, "right": ["a", "b"], "forms": {forms[0]: answer}} for n in range(2)]
    row = frame_rule.row(forms[0], answers)
    assert (row["clips"], row["same first"], row["decode time"]) == (2, 1.0, 0.5)
    assert (row["right of 24, keyframes"], row["right of its pair, keyframes"]) == (1.0, 0.0)
    assert frame_rule.misses(row)
