"""From logits to the probability that a label is true, or none of them. V views, K labels.

N negatives: labels that the question does not mean. Works by a rule: measured on the user's clips,
or, where the bundle has no calibration, a softmax over labels and negatives together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle.calibration import Calibration, Logistic, Statistic

Array = NDArray[np.float64]
IDENTITY = Logistic()


@dataclass(frozen=True)
class OpenSetRule:
    """How known a clip is (`statistic`, then `known`), and how labels share that.

    `weights` are those of the NUMBERS of a calibration, where the statistic is `combined`.
    """

    temperature: float = 1.0
    statistic: Statistic = "odds"
    known: Logistic = IDENTITY
    weights: tuple[float, ...] = ()


# The sigmoid of log-odds of labels against negatives: their share of one softmax over both.
UNCALIBRATED = OpenSetRule()


def rule_of(calibration: Calibration | None) -> OpenSetRule:
    """Return the rule of a bundle."""
    if calibration is None:
        return UNCALIBRATED
    return OpenSetRule(
        calibration.temperature, calibration.statistic, calibration.known, calibration.weights
    )


def statistic(name: Statistic, labels: Array, negatives: Array) -> Array:
    """Return how known each view looks, (V,), from logits (V,K) and (V,N); larger is more known.

    `max_logit` is the best logit; `energy` the logarithm of the summed exponentials; `margin` the
    best before the second (the best negative where there is one label); `negatives` the best label
    before the best negative; `odds` the logarithm of the odds of all labels against all negatives.
    """
    if name == "max_logit":
        return np.asarray(labels.max(axis=1))
    if name == "energy":
        return _log_sum(labels)
    if name == "margin":
        if labels.shape[1] == 1:
            return np.asarray(labels[:, 0] - negatives.max(axis=1))
        two = np.sort(labels, axis=1)[:, -2:]
        return np.asarray(two[:, 1] - two[:, 0])
    if name == "negatives":
        return np.asarray(labels.max(axis=1) - negatives.max(axis=1))
    return _log_sum(labels) - _log_sum(negatives)


def probabilities(
    labels: NDArray[np.float32], negatives: NDArray[np.float32], rule: OpenSetRule
) -> tuple[float, Array]:
    """Return the probability of none of the labels, and of each (K,): the mean over the views.

    Args:
        labels: Logits (V,K).
        negatives: Logits (V,N).
        rule: Of the bundle.

    Returns:
        Numbers from 0 to 1, 1 in sum.
    """
    wide = labels.astype(np.float64)
    odds = log_odds(rule, wide, negatives.astype(np.float64))
    shares = sigmoid(odds)[:, None] * softmax(wide / rule.temperature)
    return float(sigmoid(-odds).mean()), shares.mean(axis=0)


def log_odds(rule: OpenSetRule, labels: Array, negatives: Array) -> Array:
    """Return the logarithm of the odds that one of the labels is true, for each view (V,)."""
    if rule.statistic == "combined":
        x = numbers(labels, negatives) @ np.array(rule.weights)
    else:
        x = statistic(rule.statistic, labels, negatives)
    return np.asarray(rule.known.slope * x + rule.known.offset)


def numbers(labels: Array, negatives: Array) -> Array:
    """Return what is combined, (V,6), in the order of NUMBERS.

    The mean of the labels is not: it would tell how many of them are far from the clip, which
    differs from question to question.
    """
    best = labels.max(axis=1)
    return np.stack(
        [
            best,
            best - statistic("margin", labels, negatives),
            _log_sum(labels),
            negatives.max(axis=1),
            _log_sum(negatives),
            negatives.mean(axis=1),
        ],
        axis=1,
    )


def softmax(logits: Array) -> Array:
    """Return the softmax over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)); never overflows."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


def _log_sum(logits: Array) -> Array:
    return np.asarray(np.logaddexp.reduce(logits, axis=1))
