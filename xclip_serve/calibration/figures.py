"""How good probabilities are on clips that they were not fitted to. N clips, K labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.bundle.calibration import COVERAGES, CalibrationFigures, OpenSetFigures, Spread
from service.inference.open_set import UNCALIBRATED, OpenSetRule, log_odds, sigmoid, softmax
from xclip_serve.calibration.evidence import Array, Evidence
from xclip_serve.calibration.fit import FOLDS, Fit, fit, folds

BINS = 15
KNOWN_KEPT = 0.95
COVERAGE = 0.9


def auroc(known: Array, unknown: Array) -> float:
    """Return how often a known clip has the larger number than an unknown one; ties are half."""
    values, ranks = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    of_known = np.bincount(ranks[: len(known)], minlength=len(values))
    of_unknown = np.bincount(ranks[len(known) :], minlength=len(values))
    below = np.cumsum(of_unknown) - of_unknown
    return float((of_known * (below + of_unknown / 2)).sum() / (len(known) * len(unknown)))


def fpr95(known: Array, unknown: Array) -> float:
    """Return the share of unknown clips above the number that 95 % of the known ones reach."""
    limit = np.quantile(known, 1 - KNOWN_KEPT, method="lower")
    return float((unknown >= limit).mean())


def expected_calibration_error(confidence: Array, right: NDArray[np.bool_]) -> float:
    """Return the mean distance of confidence from accuracy over 15 bins of equal width."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def open_set_figures(
    rule: OpenSetRule, known: Evidence, unknown: Evidence
) -> tuple[float, float, float]:
    """Return AUROC, FPR95 and ECE of a rule on clips that it was not fitted to."""
    odds = [log_odds(rule, clips.logits, clips.negatives) for clips in (known, unknown)]
    confidences, rights = [], []
    for clips, odd in zip((known, unknown), odds, strict=True):
        shares = softmax(clips.logits / rule.temperature)
        best, none = sigmoid(odd) * shares.max(axis=1), sigmoid(-odd)
        named = best > none
        rows = np.arange(len(clips))
        confidences.append(np.maximum(best, none))
        true = clips.truth[rows, shares.argmax(axis=1)]
        rights.append(np.where(named, true, ~clips.is_known))
    ece = expected_calibration_error(np.concatenate(confidences), np.concatenate(rights))
    return auroc(*odds), fpr95(*odds), ece


def covered(fitted: Fit, clips: Evidence, coverage: float = COVERAGE) -> float:
    """Return the share of clips of one label whose set of labels holds it."""
    one = clips.single
    shares = softmax(one.logits / fitted.rule.temperature)
    limit = fitted.conformal[COVERAGES.index(coverage)]
    return float((1 - shares[one.truth] <= limit).mean())


def cross_validated(known: Evidence, unknown: Evidence | None) -> CalibrationFigures:
    """Fit on four fifths, measure on the fifth, five times.

    Args:
        known: Clips that show one of the labels.
        unknown: Clips that show none; None: the known ones, not asked for what they show.
    """
    of_known = folds(len(known))
    of_unknown = None if unknown is None else folds(len(unknown))
    before, after, coverage = [], [], []
    for part in range(FOLDS):
        train, test = known.of(of_known != part), known.of(of_known == part)
        if unknown is None or of_unknown is None:
            other_train, other_test = train.without_truth(), test.without_truth()
        else:
            other_train, other_test = (
                unknown.of(of_unknown != part),
                unknown.of(of_unknown == part),
            )
        fitted = fit(train, other_train)
        before.append(open_set_figures(UNCALIBRATED, test, other_test))
        after.append(open_set_figures(fitted.rule, test, other_test))
        coverage.append(covered(fitted, test))
    return CalibrationFigures(
        folds=FOLDS, before=_figures(before), after=_figures(after), coverage_90=_spread(coverage)
    )


def _figures(parts: Sequence[tuple[float, float, float]]) -> OpenSetFigures:
    areas, false_positives, errors = zip(*parts, strict=True)
    return OpenSetFigures(auroc=_spread(areas), fpr95=_spread(false_positives), ece=_spread(errors))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=float(np.mean(values)), deviation=float(np.std(values)))
