"""Clips that are sent once, asked about by their id, and forgotten."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running

VIDEOS = "/v1/videos"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime()) as started:
        yield started


def test_a_clip_is_sent_once_and_asked_about_by_its_id(server: RunningServer) -> None:
    clip = clip_bytes(1)
    made = server.client.post(VIDEOS, files={"video": clip, "views": (None, "2")})
    assert made.status_code == 200, made.text
    stored = made.json()
    assert stored["cache"] == {"video": "miss"}
    assert len(stored["video"]["frame_times_s"]) > 0
    known = server.classify(None, video_id=stored["video_id"], labels="a")
    uploaded = server.classify(clip, labels="a", views="2")
    assert known.json()["predictions"] == uploaded.json()["predictions"]
    assert uploaded.json()["video_id"] == stored["video_id"]
    data = base64.b64encode(clip).decode()
    again = server.client.post(VIDEOS, json={"video": {"data": data}, "views": 2}).json()
    assert (again["video_id"], again["cache"]["video"]) == (stored["video_id"], "hit")


def test_what_is_forgotten_is_not_held(server: RunningServer) -> None:
    stored = server.client.post(VIDEOS, files={"video": clip_bytes(2)}).json()["video_id"]
    for _ in range(2):  # it may be asked for again
        answer = server.client.delete(f"{VIDEOS}/{stored}")
        assert (answer.status_code, answer.content) == (204, b"")
    gone = server.classify(None, video_id=stored, labels="a")
    assert gone.json()["code"] == "unknown_video_id"
    assert server.classify(clip_bytes(2), labels="a").json()["cache"]["video"] == "miss"


def test_mistakes(server: RunningServer, clip: bytes) -> None:
    files = [("video", clip), ("labels", b"a")]
    assert server.client.post(VIDEOS, files=files).json()["code"] == "unknown_field"
    assert server.client.post(VIDEOS, files={"views": (None, "1")}).json()["code"] == (
        "missing_field"
    )
    known = server.client.post(VIDEOS, json={"video": {"id": "0" * 32}})
    assert (known.status_code, known.json()["code"]) == (422, "bad_field")
    assert server.client.post(VIDEOS, files={"video": b"no video"}).status_code == 415
    assert server.client.delete(f"{VIDEOS}/x").json()["code"] == "bad_field"
    assert server.client.get(VIDEOS).headers["allow"] == "POST"


def test_strangers_neither_send_nor_forget(tmp_path: Path, clip: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'xclip_alice').hexdigest()} alice\n")
    with running(fake_runtime(), api_keys_file=keys) as guarded:
        assert guarded.client.post(VIDEOS, files={"video": clip}).status_code == 401
        assert guarded.client.delete(f"{VIDEOS}/{'0' * 32}").status_code == 401


def test_nothing_is_computed_for_labels_of_a_clip_that_is_not_here(server: RunningServer) -> None:
    labels = ["of a clip that is not here", "nor here"]
    assert server.classify(labels=labels, video_id="0" * 32).status_code == 404
    answer = server.classify(clip_bytes(), labels=labels)
    assert answer.json()["cache"]["text_misses"] == 2
