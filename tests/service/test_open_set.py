"""`open_set`, `coverage` and `scores=sigmoid`: what they answer, and when they are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from export.bundle import open_bundle
from export.bundle.calibration import (
    COVERAGES,
    NUMBERS,
    STATISTICS,
    Calibration,
    CalibrationFigures,
    Contrast,
    Logistic,
    OpenSetFigures,
    Spread,
    Statistic,
)
from export.bundle.writing import replace_manifest
from service.contract.errors import ApiError
from service.contract.request import Question
from service.inference.answerable import check_answerable
from service.inference.negatives import NegativeLabels, package_negatives
from service.inference.open_set import OpenSetRule, log_odds, numbers, probabilities, statistic
from service.inference.ranking import rank
from service.inference.rivals import nearest_rivals, rivals_together
from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT
from tests.service.conftest import RunningServer, running, until

LABELS = ["a red circle moving left", "a red circle moving right", "a blue square growing"]
NEW = {"none_of_these", "label_set", "probability"}
NO_FIGURE = Spread(mean=0.5, deviation=0)
NO_FIGURES = OpenSetFigures(auroc=NO_FIGURE, fpr95=NO_FIGURE, ece=NO_FIGURE)


def calibration(**fields: Any) -> Calibration:
    values: dict[str, Any] = {
        "clips": 60,
        "unknown": 0,
        "labels": 3,
        "temperature": 2.0,
        "statistic": "max_logit",
        "known": Logistic(slope=0.5, offset=-1),
        "sigmoid": Logistic(slope=0.3, offset=-2),
        "conformal": tuple(np.linspace(0.3, 0.999, len(COVERAGES)).tolist()),
        "figures": CalibrationFigures(
            folds=5, before=NO_FIGURES, after=NO_FIGURES, coverage_90=NO_FIGURE
        ),
    }
    return Calibration(**{**values, **fields})


def calibrate_by_hand(bundle: Path, **fields: Any) -> None:
    manifest = open_bundle(bundle, check_files=False).manifest
    replace_manifest(bundle, manifest.model_copy(update={"calibration": calibration(**fields)}))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    bundle = tmp_path_factory.mktemp("bundle") / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    calibrate_by_hand(bundle)
    with running(bundle=bundle) as server:
        yield server


def ask(server: RunningServer, clip: bytes, **fields: Any) -> dict[str, Any]:
    response = server.classify(clip, **{"labels": json.dumps(LABELS), **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def sum_of(answer: dict[str, Any]) -> float:
    each = sum(prediction["probability"] for prediction in answer["predictions"])
    return float(answer["none_of_these"] + each)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"views": "3"},
        {"labels": LABELS[0]},
        {"labels": "", "label_set": "labels"},
        {"labels": "", "label_set": "labels", "shortlist": "7"},
        {"template": "a video of {}"},
    ],
)
def test_probabilities_sum_to_one_and_the_rest_is_as_it_was(
    server: RunningServer, clip: bytes, fields: dict[str, str]
) -> None:
    closed = ask(server, clip, **fields)
    assert not NEW & (closed.keys() | closed["predictions"][0].keys())
    opened = ask(server, clip, open_set="true", **fields)
    assert sum_of(opened) == pytest.approx(1, abs=1e-12)
    assert any("xclip-serve calibrate" in warning for warning in opened["warnings"])
    for before, after in zip(closed["predictions"], opened["predictions"], strict=True):
        assert before.items() <= after.items()  # every bit
    again = ask(server, clip, open_set="true", **fields)
    assert again["none_of_these"] == opened["none_of_these"]
    assert again["predictions"] == opened["predictions"]


def test_without_calibration_it_is_one_softmax_over_labels_and_negatives(
    server: RunningServer, clip: bytes
) -> None:
    answer = ask(server, clip, open_set="true")
    engine = server.server.engine
    assert engine.labels._negatives is not None
    stored = engine.labels.label_set("labels")
    vectors = dict(zip(stored.labels, stored.vectors, strict=True))
    far = engine.labels._negatives.far_from(LABELS, np.stack([vectors[label] for label in LABELS]))
    held = engine.features._clips._entries[("", answer["video_id"])].value
    negatives = engine.runtime.score(held.features, far[None]).astype(float)[0]
    logits = np.array([p["logit"] for p in answer["predictions"]])
    exponentials = np.exp(np.concatenate([logits, negatives]) - logits.max())
    shares = exponentials / exponentials.sum()
    found = [p["probability"] for p in answer["predictions"]]
    assert found == pytest.approx(shares[: len(LABELS)].tolist(), abs=1e-5)
    assert answer["none_of_these"] == pytest.approx(shares[len(LABELS) :].sum(), abs=1e-5)


def test_top_k_cuts_what_is_shown_alone(server: RunningServer, clip: bytes) -> None:
    whole = ask(server, clip, open_set="true")
    cut = ask(server, clip, open_set="true", top_k="1")
    assert cut["predictions"] == whole["predictions"][:1]
    assert cut["none_of_these"] == whole["none_of_these"]


@pytest.mark.parametrize("fields", [{"coverage": "0.9"}, {"scores": "sigmoid"}])
def test_what_needs_a_calibration_is_refused_with_the_command(
    server: RunningServer, clip: bytes, fields: dict[str, str]
) -> None:
    response = server.classify(clip, labels=LABELS, **fields)
    assert response.status_code == 422
    assert response.json()["code"] == "not_calibrated"
    assert "xclip-serve calibrate BUNDLE --list" in response.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"scores": "both"},
        {"open_set": "yes"},
        {"coverage": "0.4"},
        {"coverage": "1"},
        {"coverage": "90"},
        {"coverage": "0,9"},
        {"coverage": "nan"},
    ],
)
def test_values_that_mean_nothing_are_named(
    server: RunningServer, clip: bytes, fields: dict[str, str]
) -> None:
    response = server.classify(clip, labels=LABELS, **fields)
    assert response.status_code == 422
    assert response.json()["code"] == "bad_field"
    assert response.json()["detail"].startswith(next(iter(fields)))


def test_a_calibration_rules_what_is_answered(calibrated: RunningServer, clip: bytes) -> None:
    answer = ask(calibrated, clip, open_set="true", coverage="0.905", scores="sigmoid")
    assert not any("calibrate" in warning for warning in answer["warnings"])
    logits = np.array([p["logit"] for p in answer["predictions"]])
    shares = np.exp((logits - logits.max()) / 2)
    shares /= shares.sum()
    known = 1 / (1 + np.exp(-(0.5 * logits.max() - 1)))
    found = [p["probability"] for p in answer["predictions"]]
    assert found == pytest.approx((known * shares).tolist(), rel=1e-9)
    assert answer["none_of_these"] == pytest.approx(1 - known, rel=1e-9)
    assert sum_of(answer) == pytest.approx(1, abs=1e-12)
    scores = 1 / (1 + np.exp(-(0.3 * logits - 2)))
    assert [p["score"] for p in answer["predictions"]] == pytest.approx(scores.tolist(), rel=1e-9)
    limit = calibration().conformal[COVERAGES.index(0.91)]  # the next that covers as much
    ranked = [p["label"] for p in answer["predictions"]]
    assert answer["label_set"] == [
        label for label, share in zip(ranked, shares, strict=True) if 1 - share <= limit
    ]


def test_more_coverage_is_more_labels(calibrated: RunningServer, clip: bytes) -> None:
    sets = [
        ask(calibrated, clip, labels="", label_set="labels", coverage=str(c))["label_set"]
        for c in (0.5, 0.9, 0.99)
    ]
    assert sets[0] == sets[1][: len(sets[0])]
    assert sets[1] == sets[2][: len(sets[1])]
    assert len(sets[2]) > len(sets[0])


def test_a_running_server_takes_a_calibration(tmp_path: Path, clip: bytes) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    with running(bundle=bundle) as server:
        before = ask(server, clip, open_set="true")
        calibrate_by_hand(bundle)
        reload(server)
        until(lambda: server.server.last_reload == "swapped")
        after = ask(server, clip, open_set="true")
    assert after["model"]["bundle"] != before["model"]["bundle"]
    assert after["video_id"] != before["video_id"]  # what was cached is that of another bundle
    assert after["none_of_these"] != before["none_of_these"]
    assert [p["logit"] for p in after["predictions"]] == [p["logit"] for p in before["predictions"]]


def reload(server: RunningServer) -> None:
    """Ask for what SIGHUP asks for."""
    starting = server.server._starting
    assert starting is not None
    starting.get_loop().call_soon_threadsafe(server.app.state.reloader.ask)


def test_a_network_that_was_trained_by_a_sigmoid_needs_no_calibration() -> None:
    """Its logits hold the bias that it was trained with, so their sigmoid is what it means."""
    manifest = open_bundle(DEMO_BUNDLE, check_files=False).manifest
    native = manifest.model_copy(update={"logit_bias": -12.5})
    question = Question(labels=("a", "b"), scores="sigmoid")
    check_answerable(question, native)
    with pytest.raises(ApiError, match="calibrate"):
        check_answerable(question, manifest)
    logits = np.array([[-3.0, 1.5], [-2.0, 2.5]], np.float32)
    found = rank(("a", "b"), logits, question, native).predictions
    assert [prediction.label for prediction in found] == ["b", "a"]
    expected = (1 / (1 + np.exp(-logits.astype(float)))).mean(axis=0)
    assert [p.score for p in found] == pytest.approx([expected[1], expected[0]])


@pytest.mark.parametrize("name", STATISTICS)
def test_no_logits_overflow(name: Statistic) -> None:
    weights = (3.0, -1.0, 1.0, 2.0, -0.5, 0.5) if name == "combined" else ()
    rule = OpenSetRule(0.02, name, Logistic(slope=100, offset=3), weights)
    for scale in (0.0, 1e4):
        labels = np.array([[scale, 0.0], [0.0, -scale]], np.float32)
        none, each = probabilities(labels, -labels, rule)
        assert none + each.sum() == pytest.approx(1, abs=1e-12)


def test_statistics_are_what_they_are_called() -> None:
    labels, negatives = np.array([[3.0, 1.0, 0.0]]), np.array([[2.0, -1.0]])
    assert statistic("max_logit", labels, negatives) == [3]
    assert statistic("margin", labels, negatives) == [2]
    assert statistic("margin", labels[:, :1], negatives) == [1]
    assert statistic("margin", labels[:, 2:], negatives) == [-2], "also where two are before it"
    assert numbers(labels[:, 2:], negatives)[0, :2] == pytest.approx([0, 2])
    energy = np.log(np.exp(labels).sum())
    assert statistic("energy", labels, negatives) == pytest.approx([energy])
    odds = energy - np.log(np.exp(negatives).sum())
    assert statistic("odds", labels, negatives) == pytest.approx([odds])
    assert statistic("negatives", labels, negatives) == [1]


def test_a_combined_statistic_is_the_weighted_sum_of_all() -> None:
    labels, negatives = np.array([[3.0, 1.0, 0.0]]), np.array([[2.0, -1.0]])
    each = [3, 1, np.log(np.exp(labels).sum()), 2, np.log(np.exp(negatives).sum()), 0.5]
    assert numbers(labels, negatives)[0] == pytest.approx(each)
    assert len(each) == len(NUMBERS)
    hidden = np.array([[-np.inf, 3.0, 1.0]])  # not asked about
    assert numbers(hidden, negatives)[0, :2] == pytest.approx([3, 1])
    weights = (0.5, -1.0, 2.0, 3.0, -0.5, 1.0)
    rule = OpenSetRule(1.0, "combined", Logistic(slope=2, offset=-1), weights)
    x = np.dot(weights, each)
    assert log_odds(rule, labels, negatives) == pytest.approx([2 * x - 1])
    with pytest.raises(ValidationError, match="6 are needed"):
        calibration(statistic="combined")
    with pytest.raises(ValidationError, match="0 are needed"):
        calibration(weights=weights)


def test_rivals_are_the_half_of_the_others_most_like_a_label() -> None:
    angles = np.array([0.0, 0.1, 0.3, 2.0, 2.2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    rivals = nearest_rivals(vectors)
    assert rivals.tolist() == [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2]]
    logits = np.array([[1.0, 5.0, 2.0, 0.0, 3.0]])
    together = rivals_together(logits, rivals)
    assert together[0, 0] == pytest.approx(np.log(np.exp(5) + np.exp(2)))
    assert together[0, 3] == pytest.approx(np.log(np.exp(3) + np.exp(2)))
    assert nearest_rivals(vectors[:1]).shape == (1, 0)
    assert nearest_rivals(vectors[:2]).tolist() == [[1], [0]]
    many = np.random.default_rng(0).standard_normal((450, 8)).astype(np.float32)
    assert nearest_rivals(many).shape == (450, 100)


def test_a_sigmoid_compares_a_label_with_its_rivals(tmp_path: Path, clip: bytes) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    contrast = Contrast(share=0.7, known=Logistic(slope=0.4, offset=-1))
    calibrate_by_hand(bundle, contrast=contrast)
    with running(bundle=bundle) as server:
        found = ask(server, clip, scores="sigmoid")["predictions"]
        (alone,) = ask(server, clip, labels=LABELS[0], scores="sigmoid")["predictions"]
        stored = server.server.engine.labels.label_set("labels")
    vectors = dict(zip(stored.labels, stored.vectors, strict=True))
    logits = {p["label"]: p["logit"] for p in found}
    for one in found:
        # Of two others one is the rival.
        others = [label for label in LABELS if label != one["label"]]
        like = [float(np.dot(vectors[one["label"]], vectors[other])) for other in others]
        rival = others[int(np.argmax(like))]
        x = 0.4 * (one["logit"] - 0.7 * logits[rival]) - 1
        assert one["score"] == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-6)
    x = 0.3 * alone["logit"] - 2  # there is nothing to compare it with
    assert alone["score"] == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-6)


def test_what_is_explained_is_what_was_answered_first(tmp_path: Path) -> None:
    """A sigmoid may put another label first than the largest logit; backwards, too."""
    bundle = tmp_path / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    contrast = Contrast(share=-2, known=Logistic(slope=0.01, offset=0))
    calibrate_by_hand(bundle, contrast=contrast)
    video = (ROOT / "docs" / "clip.mp4").read_bytes()
    with running(bundle=bundle) as server:
        asked = {"labels": json.dumps(LABELS[:2]), "scores": "sigmoid", "explain": "frames"}
        answer = ask(server, video, **asked)
    first, second = answer["predictions"]
    assert (first["label"], second["label"]) == (LABELS[1], LABELS[0])
    assert first["logit"] < second["logit"]
    explanation = answer["explanation"]
    assert (explanation["label"], explanation["logit"]) == (first["label"], first["logit"])
    backwards = explanation["reversed"]
    assert backwards["label"] == LABELS[0]  # has the smaller logit there
    logit = first["logit"] - backwards["change"]
    x = 0.01 * (backwards["logit"] + 2 * logit)
    assert backwards["score"] == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-6)


def test_a_calibration_from_before_is_read_and_written_as_it_was() -> None:
    old = calibration()
    stored = json.loads(old.model_dump_json())
    assert not {"weights", "contrast"} & stored.keys()
    assert Calibration(**stored) == old


def test_negatives_are_those_far_from_the_labels_and_never_one_of_them() -> None:
    draw = np.random.default_rng(0)
    names = tuple(f"label {i}" for i in range(40))
    vectors = draw.standard_normal((40, 8)).astype(np.float32)
    negatives = NegativeLabels(names, vectors)
    far = negatives.far_from(["Label  3", "other"], vectors[[3, 4]])
    assert len(far) == 31  # four fifths of 39, rounded
    kept = {tuple(row) for row in far.tolist()}
    assert tuple(vectors[3].tolist()) not in kept
    assert tuple(vectors[4].tolist()) not in kept  # the nearest there is
    with pytest.raises(ApiError, match="ask about fewer"):
        negatives.far_from(names, vectors)
    assert len(set(package_negatives())) == len(package_negatives()) > 100
