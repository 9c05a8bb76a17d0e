"""`explain=frames`: what each frame adds, and whether the order of the frames does."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from model.inputs import decode_clip
from service.inference.explanation import without_frame
from tests.conftest import ROOT
from tests.service.conftest import RunningServer, clip_bytes

CLIP = (ROOT / "docs" / "clip.mp4").read_bytes()
LABELS = ["a red circle moving left", "a red circle moving right"]


def explained(server: RunningServer, **fields: Any) -> dict[str, Any]:
    response = server.classify(CLIP, labels=json.dumps(LABELS), explain="frames", **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_what_moves_left_moves_right_backwards(server: RunningServer) -> None:
    answer = explained(server)
    found, best = answer["explanation"], answer["predictions"][0]
    assert (found["label"], found["logit"]) == (best["label"], best["logit"])
    assert found["label"] == LABELS[0]
    assert found["reversed"]["label"] == LABELS[1]
    assert found["reversed"]["change"] > 0
    assert [frame["time_s"] for frame in found["frames"]] == answer["video"]["frame_times_s"]
    plain = server.classify(CLIP, labels=json.dumps(LABELS)).json()
    assert "explanation" not in plain
    assert plain["predictions"] == answer["predictions"]


def test_changes_are_those_of_the_network(server: RunningServer) -> None:
    found = explained(server)["explanation"]
    engine = server.server.engine
    frames = decode_clip(io.BytesIO(CLIP), engine.bundle.manifest.inputs).frames
    stored = engine.labels.label_set("labels")
    vectors = stored.vectors[[stored.labels.index(label) for label in LABELS]]

    def logit(frames: np.ndarray) -> float:
        return float(engine.runtime.score(engine.runtime.encode_video(frames), vectors[None])[0, 0])

    whole = logit(frames)
    assert found["logit"] == pytest.approx(whole, abs=1e-4)
    for index, frame in enumerate(found["frames"]):
        expected = whole - logit(without_frame(frames, index))
        assert frame["change"] == pytest.approx(expected, abs=1e-4)
    backwards = whole - logit(np.ascontiguousarray(frames[:, ::-1]))
    assert found["reversed"]["change"] == pytest.approx(backwards, abs=1e-4)


def test_a_frame_that_is_left_out_shows_its_neighbour() -> None:
    frames = np.arange(4, dtype=np.uint8).reshape(1, 4, 1, 1, 1)
    assert without_frame(frames, 0).ravel().tolist() == [1, 1, 2, 3]
    assert without_frame(frames, 2).ravel().tolist() == [0, 1, 1, 3]
    assert frames.ravel().tolist() == [0, 1, 2, 3]
    assert without_frame(frames[:, :1], 0).ravel().tolist() == [0]


@pytest.mark.parametrize(
    ("fields", "says"), [({"views": "2"}, "views"), ({"explain": "pixels"}, "explain")]
)
def test_what_cannot_be_explained_is_refused(
    server: RunningServer, fields: dict[str, str], says: str
) -> None:
    given = {"labels": json.dumps(LABELS), "explain": "frames", **fields}
    response = server.classify(CLIP, **given)
    assert (response.status_code, response.json()["code"]) == (422, "bad_field")
    assert says in response.json()["detail"]


def test_where_all_frames_are_one_none_of_them_adds_anything(server: RunningServer) -> None:
    response = server.classify(clip_bytes(frames=1), labels=json.dumps(LABELS), explain="frames")
    found = response.json()["explanation"]
    assert len(found["frames"]) == 8
    changes = [found["reversed"]["change"], *(frame["change"] for frame in found["frames"])]
    assert changes == pytest.approx([0] * 9, abs=1e-4)


def test_labels_of_a_shortlist_are_explained(server: RunningServer) -> None:
    asked = {"label_set": "labels", "shortlist": "3", "explain": "frames"}
    answer = server.classify(CLIP, **asked).json()
    best, explanation = answer["predictions"][0], answer["explanation"]
    assert (explanation["label"], explanation["logit"]) == (best["label"], best["logit"])
    stored = server.server.engine.labels.label_set("labels")
    assert stored.labels[best["index"]] == best["label"]


def test_frames_of_an_earlier_clip_are_not_kept(server: RunningServer) -> None:
    known = server.classify(CLIP, labels=json.dumps(LABELS)).json()["video_id"]
    response = server.classify(None, video_id=known, labels=json.dumps(LABELS), explain="frames")
    assert (response.status_code, response.json()["code"]) == (422, "bad_field")
    assert "upload" in response.json()["detail"]
