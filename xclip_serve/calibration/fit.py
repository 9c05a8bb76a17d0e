"""Fit what turns logits into probabilities. N clips, K labels.

Temperature: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Logistic: Platt, with
his targets, which keep it finite where the classes are told apart without a fault. Coverage:
split-conformal prediction with one minus the probability of the true label as nonconformity
(Sadinle, Lei and Wasserman, 2019: the smallest sets on average).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle.calibration import COVERAGES, STATISTICS, Contrast, Logistic, Statistic
from service.inference.open_set import (
    OpenSetRule,
    log_odds,
    numbers,
    softmax,
    statistic,
)
from xclip_serve.calibration.evidence import Evidence
from xclip_serve.calibration.logistic import LEAST_SLOPE, fit_linear, fit_logistic

FOLDS = 5
GOLDEN = (math.sqrt(5) - 1) / 2
LOG_TEMPERATURES = (-4.0, 4.0)
RIDGE = 0.1  # of numbers that are combined: they say nearly the same


@dataclass(frozen=True)
class Fit:
    """All that is fitted."""

    rule: OpenSetRule
    sigmoid: Logistic
    contrast: Contrast
    conformal: tuple[float, ...]


def fit(known: Evidence, unknown: Evidence) -> Fit:
    """Fit everything.

    Args:
        known: Clips that show one or more of the labels; some of them exactly one.
        unknown: Clips that show none of them.
    """
    one = known.single
    temperature = fit_temperature(one)
    chosen = choose_statistic(known, unknown)
    return Fit(
        fit_rule(chosen, known, unknown, temperature),
        fit_logistic(known.logits.ravel(), known.truth.ravel()),
        fit_contrast(known),
        conformal_limits(one, temperature),
    )


def fit_temperature(clips: Evidence) -> float:
    """Return what logits are divided by so that the true labels are likeliest."""
    truth = clips.truth.argmax(axis=1)
    rows = np.arange(len(clips))

    def loss(log_temperature: float) -> float:
        scaled = clips.logits / math.exp(log_temperature)
        return float((np.logaddexp.reduce(scaled, axis=1) - scaled[rows, truth]).mean())

    low, high = LOG_TEMPERATURES  # the loss is convex in 1 / temperature: one minimum
    while high - low > 1e-5:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def choose_statistic(known: Evidence, unknown: Evidence) -> Statistic:
    """Return the statistic that predicts best which held-out clips are known: by log loss."""
    return min(STATISTICS, key=lambda name: _held_out_loss(name, known, unknown))


def conformal_limits(clips: Evidence, temperature: float) -> tuple[float, ...]:
    """Return for each of COVERAGES how far from 1 the true label's probability may be."""
    shares = softmax(clips.logits / temperature)
    strange = np.sort(1 - shares[clips.truth])
    ranks = [math.ceil((len(clips) + 1) * coverage - 1e-9) for coverage in COVERAGES]
    return tuple(float(strange[r - 1]) if r <= len(clips) else 1.0 for r in ranks)


def folds(count: int, parts: int = FOLDS) -> NDArray[np.int64]:
    """Return which of the parts each clip belongs to, (N,): drawn, and always the same."""
    return np.asarray(np.random.default_rng(0).permutation(np.arange(count) % parts))


def fit_rule(
    name: Statistic, known: Evidence, unknown: Evidence, temperature: float = 1.0
) -> OpenSetRule:
    """Fit the probability of being known to a statistic, or to all of them together."""
    true = np.arange(len(known) + len(unknown)) < len(known)
    # As if half of the clips were known, however many of either there are.
    weights = np.where(true, 1 / len(known), 1 / len(unknown)) * len(true) / 2
    parts = (known, unknown)
    if name == "combined":
        rows = np.concatenate([numbers(part.logits, part.negatives) for part in parts])
        combined, offset = fit_linear(rows, true, weights, RIDGE)
        return OpenSetRule(temperature, name, Logistic(offset=offset), tuple(combined.tolist()))
    x = np.concatenate([statistic(name, part.logits, part.negatives) for part in parts])
    return OpenSetRule(temperature, name, fit_logistic(x, true, weights))


def fit_contrast(clips: Evidence) -> Contrast:
    """Fit the probability that a label is true by its logit and those of its rivals together."""
    pairs = np.stack([clips.logits.ravel(), clips.rivals.ravel()], axis=1)
    (slope, of_rivals), offset = fit_linear(pairs, clips.truth.ravel())
    share = -float(of_rivals / slope) if slope > LEAST_SLOPE else 0.0
    if share <= 0:  # they tell nothing
        return Contrast(share=0, known=fit_logistic(pairs[:, 0], clips.truth.ravel()))
    return Contrast(share=share, known=Logistic(slope=float(slope), offset=offset))


def _held_out_loss(name: Statistic, known: Evidence, unknown: Evidence) -> float:
    of_known, of_unknown = folds(len(known)), folds(len(unknown))
    losses = []
    for part in range(FOLDS):
        rule = fit_rule(name, known.of(of_known != part), unknown.of(of_unknown != part))
        for clips, held, sign in ((known, of_known, 1), (unknown, of_unknown, -1)):
            rest = clips.of(held == part)
            odds = log_odds(rule, rest.logits, rest.negatives)
            losses.append(np.logaddexp(0.0, -sign * odds).mean())
    return float(np.mean(losses))
