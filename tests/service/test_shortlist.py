"""`shortlist`: only the labels nearest to the clip are scored, and these exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from export.bundle import open_bundle
from service.inference.shortlist import VIDEO, can_compare, nearest
from service.settings import DEMO_BUNDLE
from tests.service.conftest import RunningServer, fake_runtime, running

LABELS = [f"a {c} {s} growing" for c in ("red", "blue", "green") for s in ("circle", "square")]


def cosines(video: np.ndarray, text: np.ndarray) -> np.ndarray:
    video = video / np.linalg.norm(video, axis=1, keepdims=True)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    return np.asarray((video @ text.T).mean(axis=0))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_the_nearest_are_found_in_the_order_asked(views: int, count: int) -> None:
    draw = np.random.default_rng(count)
    video = draw.standard_normal((views, 32), np.float32)
    text = draw.standard_normal((500, 32), np.float32) * draw.uniform(0.1, 9, (500, 1))
    chosen = nearest(video, text.astype(np.float32), count)
    best = np.argsort(-cosines(video, text))[:count]
    assert chosen.tolist() == sorted(best.tolist())


def test_of_equals_the_first_are_taken_and_nothing_is_no_neighbour() -> None:
    video = np.array([[1, 0]], np.float32)
    text = np.array([[-1, 0], [2, 0], [0, 0], [1, 0], [3, 0]], np.float32)
    assert nearest(video, text, 2).tolist() == [1, 3]
    assert nearest(video, text, 4).tolist() == [1, 2, 3, 4]


def answer(server: RunningServer, clip: bytes, **fields: Any) -> dict[str, Any]:
    response = server.classify(clip, **fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_the_nearest_are_scored_as_ever_and_share_the_score(
    server: RunningServer, clip: bytes
) -> None:
    exact = answer(server, clip, label_set="labels")
    short = answer(server, clip, label_set="labels", shortlist="20")
    count = len(exact["predictions"])
    assert exact["shortlist"] is None
    assert short["shortlist"] == {"compared": count, "scored": 20}

    engine = server.server.engine
    entries = [entry.value for entry in engine.features._clips._entries.values()]
    (held,) = [held for held in entries if len(held.features[VIDEO]) == 1]
    stored = engine.labels.label_set("labels")
    near = np.argsort(-cosines(held.features[VIDEO], stored.vectors))[:20]
    given = {p["label"]: p for p in short["predictions"]}
    assert given.keys() == {stored.labels[i] for i in near}

    everywhere = {p["label"]: p for p in exact["predictions"]}
    for label, found in given.items():
        assert found["logit"] == pytest.approx(everywhere[label]["logit"], abs=1e-4)
        assert found["similarity"] == pytest.approx(everywhere[label]["similarity"], abs=1e-5)
    logits = np.array([p["logit"] for p in short["predictions"]])
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [p["score"] for p in short["predictions"]] == pytest.approx(shares.tolist(), abs=1e-6)
    assert logits.tolist() == sorted(logits.tolist(), reverse=True)

    cut = answer(server, clip, label_set="labels", shortlist="20", top_k="3")
    assert cut["predictions"] == short["predictions"][:3]


def test_several_views_and_labels_of_the_request(server: RunningServer, clip: bytes) -> None:
    short = answer(server, clip, labels=LABELS, shortlist="2", views="3")
    assert short["shortlist"] == {"compared": len(LABELS), "scored": 2}
    assert len(short["predictions"]) == 2
    assert sum(p["score"] for p in short["predictions"]) == pytest.approx(1)


@pytest.mark.parametrize("count", [len(LABELS), 10_000])
def test_a_shortlist_of_all_is_the_exact_answer(
    server: RunningServer, clip: bytes, count: int
) -> None:
    exact = answer(server, clip, labels=LABELS)
    short = answer(server, clip, labels=LABELS, shortlist=str(count))
    assert short["predictions"] == exact["predictions"]
    assert short["shortlist"] == {"compared": len(LABELS), "scored": len(LABELS)}


@pytest.mark.parametrize("value", ["0", "-1", "ten", "1.5", "10001"])
def test_what_is_no_number_of_labels(server: RunningServer, clip: bytes, value: str) -> None:
    response = server.classify(clip, labels=LABELS, shortlist=value)
    assert (response.status_code, response.json()["code"]) == (422, "bad_field")
    assert "shortlist must be a whole number from 1 to 10000" in response.json()["detail"]


def test_given_twice(server: RunningServer, clip: bytes) -> None:
    response = server.classify(clip, labels=LABELS, shortlist=["1", "2"])
    assert response.json()["code"] == "duplicate_field"


def test_a_network_without_a_clip_vector_says_so(clip: bytes) -> None:
    manifest = open_bundle(DEMO_BUNDLE).manifest
    assert can_compare(manifest)
    encoder = manifest.graphs["video_encoder"]
    outputs = tuple(out for out in encoder.outputs if out.name != VIDEO)
    graphs = {**manifest.graphs, "video_encoder": encoder.model_copy(update={"outputs": outputs})}
    other = manifest.model_copy(update={"graphs": graphs})
    assert not can_compare(other)
    with running(fake_runtime()) as server:
        engine = server.server.engine
        engine._classifications = replace(engine._classifications, manifest=other)
        response = server.classify(clip, labels=LABELS, shortlist="2")
        assert (response.status_code, response.json()["code"]) == (422, "bad_field")
        assert "leave it out" in response.json()["detail"]
        assert server.classify(clip, labels=LABELS).status_code == 200
