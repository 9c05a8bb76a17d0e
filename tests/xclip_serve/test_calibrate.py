"""`xclip-serve calibrate`: what is fitted, how it is measured, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.bundle import open_bundle
from export.bundle.calibration import COVERAGES
from service.settings import DEMO_BUNDLE
from tests.service.conftest import clip_bytes
from xclip_serve import Classifier
from xclip_serve.calibration.calibrate import LEAST_CLIPS, LEAST_UNKNOWN, calibrate
from xclip_serve.calibration.evidence import Evidence
from xclip_serve.calibration.figures import auroc, expected_calibration_error, fpr95
from xclip_serve.calibration.fit import choose_statistic, fit, fit_contrast, fit_temperature
from xclip_serve.calibration.logistic import fit_linear, fit_logistic
from xclip_serve.verbs.calibrate import main

LABELS = ("a red circle moving left", "a blue square growing", "a green star moving up")


def drawn(clips: int, seed: int = 0, temperature: float = 3.0, labels: int = 8) -> Evidence:
    """Clips whose labels are drawn by softmax(logits / temperature): what there is to be found."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 6, (clips, labels))
    shares = np.exp(logits / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    truth = np.zeros((clips, labels), np.bool_)
    for row, p in enumerate(shares):
        truth[row, draw.choice(labels, p=p)] = True
    return Evidence(logits, draw.normal(0, 2, (clips, 5)), truth, np.zeros((clips, labels)))


def test_the_temperature_that_made_the_labels_is_found() -> None:
    for temperature in (0.5, 3.0):
        assert fit_temperature(drawn(4000, temperature=temperature)) == pytest.approx(
            temperature, rel=0.1
        )


def test_a_logistic_is_found_and_stays_finite_where_nothing_overlaps() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(100, 20, 20_000)
    true = draw.random(20_000) < 1 / (1 + np.exp(-(0.2 * x - 18)))
    found = fit_logistic(x, true)
    assert (found.slope, found.offset) == pytest.approx((0.2, -18), rel=0.1)
    apart = fit_logistic(np.array([0.0, 1, 10, 11]), np.array([False, False, True, True]))
    assert 0 < apart.slope < 10
    against = fit_logistic(np.array([0.0, 1, 10, 11]), np.array([True, True, False, False]))
    assert 0 < against.slope < 1e-5
    same = fit_logistic(np.ones(4), np.array([True, False, True, False]))
    assert np.isfinite([same.slope, same.offset]).all()


def test_log_odds_of_several_numbers_are_found() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal((5, -200), (1, 30), (20_000, 2))
    true = draw.random(20_000) < 1 / (1 + np.exp(-(2 * x[:, 0] + 0.05 * x[:, 1])))
    coefficients, offset = fit_linear(x, true)
    assert coefficients == pytest.approx([2, 0.05], rel=0.1)
    assert offset == pytest.approx(0, abs=1)
    same, _ = fit_linear(np.repeat(x[:, :1], 2, axis=1), true, ridge=1.0)
    assert same[0] == pytest.approx(same[1])


def test_what_rivals_have_as_well_is_taken_from_a_logit() -> None:
    draw = np.random.default_rng(0)
    rivals = draw.normal(0, 10, (3000, 6))
    above = draw.normal(0, 2, (3000, 6))
    truth = draw.random(above.shape) < 1 / (1 + np.exp(-(1.5 * above - 2)))
    clips = Evidence(above + 0.8 * rivals, above[:, :1], truth, rivals)
    found = fit_contrast(clips)
    assert (found.known.slope, found.known.offset) == pytest.approx((1.5, -2), rel=0.1)
    assert found.share == pytest.approx(0.8, rel=0.1)
    against = fit_contrast(Evidence(above - 0.8 * rivals, above[:, :1], truth, rivals))
    assert against.share == 0  # that a label is likelier beside what it is taken for is no rule


def test_statistics_are_combined_where_that_tells_the_known_better() -> None:
    draw = np.random.default_rng(0)
    size = draw.normal(0, 10, (800, 1))
    logits, negatives = draw.normal(0, 2, (800, 6)) + size, draw.normal(0, 1, (800, 4))
    truth = np.zeros((800, 6), np.bool_)
    known = np.arange(800) < 400
    rows = np.arange(400)
    logits[rows, rows % 6] += 4
    truth[rows, rows % 6] = True
    negatives += 0.5 * size  # so the best label is to be compared with half of them
    clips = Evidence(logits, negatives, truth, np.zeros((800, 6)))
    assert choose_statistic(clips.of(known), clips.of(~known)) == "combined"
    found = calibrate(clips.of(known), clips.of(~known))
    assert found.figures.after.auroc.mean > found.figures.before.auroc.mean
    assert found.figures.after.fpr95.mean < found.figures.before.fpr95.mean


def test_as_many_clips_are_covered_as_was_asked_for() -> None:
    fitted = fit(drawn(2000), drawn(2000).without_truth())
    fresh = drawn(4000, seed=1)
    shares = np.exp(fresh.logits / fitted.rule.temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    for coverage in (0.5, 0.8, 0.9, 0.95):
        limit = fitted.conformal[COVERAGES.index(coverage)]
        held = (1 - shares[fresh.truth] <= limit).mean()
        assert held == pytest.approx(coverage, abs=0.03)
    few = fit(drawn(60), drawn(60).without_truth())
    assert few.conformal[COVERAGES.index(0.99)] == 1  # sixty clips do not say


def test_figures_are_those_of_their_definitions() -> None:
    known, unknown = np.array([3.0, 2, 1, 1]), np.array([2.0, 0, 0, 1])
    pairs = [(k > u) + (k == u) / 2 for k in known for u in unknown]
    assert auroc(known, unknown) == np.mean(pairs)
    assert fpr95(known, unknown) == 0.5
    right = np.array([True, True, False, False])
    assert expected_calibration_error(np.array([0.99, 0.99, 0.99, 0.01]), right) == pytest.approx(
        0.75 * abs(0.99 - 2 / 3) + 0.25 * 0.01
    )


def test_held_out_clips_are_better_served_than_before() -> None:
    figures = calibrate(drawn(600), None).figures
    assert figures.after.ece.mean < figures.before.ece.mean
    assert figures.after.auroc.mean >= figures.before.auroc.mean
    assert figures.coverage_90.mean == pytest.approx(0.9, abs=0.05)


def test_unknown_clips_that_are_given_are_what_it_is_fitted_to() -> None:
    known = drawn(200)
    draw = np.random.default_rng(5)
    far = Evidence(
        draw.normal(-40, 1, (50, 8)),
        draw.normal(0, 2, (50, 5)),
        np.zeros((50, 8), np.bool_),
        np.zeros((50, 8)),
    )
    found = calibrate(known, far)
    assert found.unknown == 50
    assert found.figures.after.auroc.mean == 1
    assert found.figures.after.fpr95.mean == 0


@pytest.mark.parametrize(
    ("known", "unknown", "says"),
    [
        (drawn(LEAST_CLIPS - 3), None, "3 more"),
        (drawn(60), drawn(LEAST_UNKNOWN - 1), "1 more"),
        (drawn(60, labels=2), None, "3 are needed"),
    ],
)
def test_too_little_is_refused_with_how_much_is_needed(
    known: Evidence, unknown: Evidence | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        calibrate(known, unknown)


def test_the_command_stores_what_it_has_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    old = open_bundle(bundle)
    rows = ["path,label"]
    for i in range(LEAST_CLIPS + 1):  # the same three clips: each is encoded once
        (tmp_path / f"{i}.mp4").write_bytes(clip_bytes(i % 3))
        rows.append(f"{i}.mp4,{LABELS[i % 3]}")
    rows.append(f"0.mp4,{LABELS[1]}")  # two labels are true of this one
    (tmp_path / "val.csv").write_text("\n".join(rows))
    assert main([str(bundle), "--list", str(tmp_path / "val.csv"), "--jobs", "1"]) == 0
    made = open_bundle(bundle)
    assert made.hash in capsys.readouterr().out
    assert made.hash != old.hash
    found = made.manifest.calibration
    assert found is not None
    assert (found.clips, found.unknown, found.labels) == (LEAST_CLIPS + 1, 0, 3)
    assert made.manifest.model_copy(update={"calibration": None}) == old.manifest
    assert (bundle / "bundle.json").stat().st_mode == (DEMO_BUNDLE / "bundle.json").stat().st_mode
    with Classifier(bundle, decode_workers=1) as network:
        answer = network.classify(
            clip_bytes(0), LABELS, open_set=True, coverage=0.9, scores="sigmoid"
        )
    assert answer.label_set is not None
    assert answer.none_of_these is not None
    each = sum(p.probability or 0 for p in answer.predictions)
    assert answer.none_of_these + each == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("", "path,label"),
        ("path,label\nnone.mp4,a\n", "49 more"),
        ("path,label\n" + "".join(f"{i}.mp4,{'ab'[i % 2]}\n" for i in range(60)), "3 are needed"),
        ("path,label\n,a", "path is empty"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_the_bundle_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, says: str
) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(DEMO_BUNDLE, bundle)
    (tmp_path / "val.csv").write_text(rows)
    assert main([str(bundle), "--list", str(tmp_path / "val.csv"), "--jobs", "1"]) == 2
    (told,) = capsys.readouterr().err.splitlines()  # before any clip is asked about
    assert says in told
    assert open_bundle(bundle).hash == open_bundle(DEMO_BUNDLE).hash
