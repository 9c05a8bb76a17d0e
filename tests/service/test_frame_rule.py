"""Which frame of each segment is taken, as clients ask for it and as the server chooses it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import pytest

from model.inputs import VideoWarning
from tests.service.conftest import RunningServer, fake_runtime, running

LABELS = ["a red circle moving left", "arm wrestling"]
RATE, GROUP, SECONDS = 16, 16, 8


@pytest.fixture(scope="module")
def film() -> bytes:
    """Eight seconds, a key frame at the beginning of each."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"g": str(GROUP), "bf": "0", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(RATE * SECONDS):
            picture = np.full((64, 64, 3), i, np.uint8)
            picture[:, : i % 64] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def poor() -> Iterator[RunningServer]:
    """A server to which every clip is too dear."""
    with running(fake_runtime(), decode_budget_s=1e-9) as server:
        yield server


def test_the_rule_is_in_the_answer_beside_the_times(server: RunningServer, film: bytes) -> None:
    exact = server.classify(film, labels=LABELS, frame_rule="exact").json()
    keyed = server.classify(film, labels=LABELS, frame_rule="keyframes").json()
    assert exact["video"]["frame_rule"] == "exact"
    assert keyed["video"]["frame_rule"] == "keyframes"
    assert keyed["video"]["frame_times_s"] == [float(i) for i in range(SECONDS)]
    assert exact["video"]["frame_times_s"] == [i + 0.5 for i in range(SECONDS)]
    assert exact["cache"]["video"] == keyed["cache"]["video"] == "miss"
    assert VideoWarning.KEY_FRAMES not in keyed["warnings"]


def test_what_is_cheap_enough_is_exact_and_known_by_either_name(
    server: RunningServer, film: bytes
) -> None:
    content = film + b"\0"
    first = server.classify(content, labels=LABELS).json()
    again = server.classify(content, labels=LABELS, frame_rule="exact").json()
    assert first["video"]["frame_rule"] == "exact"
    assert again["cache"]["video"] == "hit"
    assert again["video_id"] == first["video_id"]
    assert again["predictions"] == first["predictions"]


def test_what_is_too_dear_is_taken_by_key_frames_and_said(poor: RunningServer, film: bytes) -> None:
    answer = poor.classify(film, labels=LABELS).json()
    assert answer["video"]["frame_rule"] == "keyframes"
    assert VideoWarning.KEY_FRAMES in answer["warnings"]
    again = poor.classify(film, labels=LABELS, frame_rule="auto").json()
    assert again["cache"]["video"] == "hit"
    assert VideoWarning.KEY_FRAMES in again["warnings"]
    known = poor.classify(labels=LABELS, video_id=answer["video_id"]).json()
    assert known["video"] == answer["video"]


def test_an_id_stands_for_one_rule(poor: RunningServer, film: bytes) -> None:
    rules = ("auto", "exact", "keyframes")
    content = film + b"\0\0"
    by_rule = {r: poor.classify(content, labels=LABELS, frame_rule=r).json() for r in rules}
    assert len({answer["video_id"] for answer in by_rule.values()}) == 3
    assert by_rule["exact"]["video"]["frame_rule"] == "exact"
    # What is held by the exact rule costs nothing, so auto takes it.
    again = poor.classify(content, labels=LABELS).json()
    assert again["video_id"] == by_rule["exact"]["video_id"]
    assert again["cache"]["video"] == "hit"
    assert VideoWarning.KEY_FRAMES not in again["warnings"]


def test_the_operator_sets_what_holds_where_nothing_is_said(film: bytes) -> None:
    with running(fake_runtime(), frame_rule="keyframes") as server:
        answer = server.classify(film, labels=LABELS).json()
        assert answer["video"]["frame_rule"] == "keyframes"
        assert VideoWarning.KEY_FRAMES not in answer["warnings"]
        known = server.classify(labels=LABELS, video_id=answer["video_id"])
        assert known.status_code == 200


def test_other_rules_are_refused(server: RunningServer, film: bytes) -> None:
    refused = server.classify(film, labels=LABELS, frame_rule="best")
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"] == "frame_rule must be exact, keyframes or auto"
    answer = server.classify(film, labels=LABELS).json()
    both = server.classify(labels=LABELS, video_id=answer["video_id"], frame_rule="keyframes")
    assert both.json()["code"] == "bad_field"
