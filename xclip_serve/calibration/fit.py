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

from export.bundle.calibration import COVERAGES, STATISTICS, Logistic, Statistic
from service.inference.open_set import OpenSetRule, sigmoid, softmax, statistic
from xclip_serve.calibration.evidence import Array, Evidence

FOLDS = 5
GOLDEN = (math.sqrt(5) - 1) / 2
LEAST_SLOPE = 1e-6  # where a number tells nothing, or the contrary
NEWTON_STEPS = 50
RIDGE = 1e-9
LOG_TEMPERATURES = (-4.0, 4.0)


@dataclass(frozen=True)
class Fit:
    """All that is fitted."""

    rule: OpenSetRule
    sigmoid: Logistic
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
        OpenSetRule(temperature, chosen, _fit_known(chosen, known, unknown)),
        _fit_sigmoid(known),
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


def fit_logistic(x: Array, true: NDArray[np.bool_], weights: Array | None = None) -> Logistic:
    """Fit the probability that a number belongs to what is true, by Newton's method.

    Args:
        x: Numbers (N,).
        true: bool (N,).
        weights: How much each counts; None: all the same.
    """
    positive, negative = true.sum(), (~true).sum()
    target = np.where(true, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weights = np.ones(len(x)) if weights is None else weights
    centre, width = float(x.mean()), float(x.std()) or 1.0
    inputs = np.stack([(x - centre) / width, np.ones(len(x))], axis=1)
    parameters = np.zeros(2)
    loss = _cross_entropy(inputs @ parameters, target, weights)
    for _ in range(NEWTON_STEPS):
        p = sigmoid(inputs @ parameters)
        gradient = inputs.T @ (weights * (p - target))
        curvature = (inputs * (weights * p * (1 - p))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + RIDGE * weights.sum() * np.eye(2), gradient)
        size = 1.0
        while size > 1e-8:
            tried = parameters - size * step
            new = _cross_entropy(inputs @ tried, target, weights)
            if new <= loss:
                break
            size /= 2
        if size <= 1e-8 or loss - new < 1e-12:
            break
        parameters, loss = tried, new
    slope = max(float(parameters[0]) / width, LEAST_SLOPE)
    return Logistic(slope=slope, offset=float(parameters[1]) - slope * centre)


def conformal_limits(clips: Evidence, temperature: float) -> tuple[float, ...]:
    """Return for each of COVERAGES how far from 1 the true label's probability may be."""
    shares = softmax(clips.logits / temperature)
    strange = np.sort(1 - shares[clips.truth])
    ranks = [math.ceil((len(clips) + 1) * coverage - 1e-9) for coverage in COVERAGES]
    return tuple(float(strange[r - 1]) if r <= len(clips) else 1.0 for r in ranks)


def folds(count: int, parts: int = FOLDS) -> NDArray[np.int64]:
    """Return which of the parts each clip belongs to, (N,): drawn, and always the same."""
    return np.asarray(np.random.default_rng(0).permutation(np.arange(count) % parts))


def _fit_known(name: Statistic, known: Evidence, unknown: Evidence) -> Logistic:
    x = np.concatenate([statistic(name, part.logits, part.negatives) for part in (known, unknown)])
    true = np.arange(len(x)) < len(known)
    # As if half of the clips were known, however many of either there are.
    return fit_logistic(x, true, np.where(true, 1 / len(known), 1 / len(unknown)) * len(x) / 2)


def _held_out_loss(name: Statistic, known: Evidence, unknown: Evidence) -> float:
    of_known, of_unknown = folds(len(known)), folds(len(unknown))
    losses = []
    for part in range(FOLDS):
        fitted = _fit_known(name, known.of(of_known != part), unknown.of(of_unknown != part))
        for clips, held, sign in ((known, of_known, 1), (unknown, of_unknown, -1)):
            rest = clips.of(held == part)
            x = statistic(name, rest.logits, rest.negatives)
            losses.append(np.logaddexp(0.0, -sign * (fitted.slope * x + fitted.offset)).mean())
    return float(np.mean(losses))


def _fit_sigmoid(known: Evidence) -> Logistic:
    return fit_logistic(known.logits.ravel(), known.truth.ravel())


def _cross_entropy(scores: Array, target: Array, weights: Array) -> float:
    return float((weights * (np.logaddexp(0.0, scores) - target * scores)).sum())
