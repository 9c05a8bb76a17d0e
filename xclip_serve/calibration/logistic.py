"""Logistic regression, by Newton's method. N rows, F numbers each.

With Platt's targets, which keep it finite where the classes are told apart without a fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.bundle.calibration import Logistic
from service.inference.open_set import sigmoid

Array = NDArray[np.float64]
LEAST_SLOPE = 1e-6  # where a number tells nothing, or the contrary
STEPS = 50
RIDGE = 1e-9  # of the weight of all rows: nothing, but that there is a solution


def fit_logistic(x: Array, true: NDArray[np.bool_], weights: Array | None = None) -> Logistic:
    """Fit the probability that a number belongs to what is true.

    Args:
        x: Numbers (N,).
        true: bool (N,).
        weights: How much each counts; None: all the same.
    """
    (slope,), offset = fit_linear(x[:, None], true, weights)
    if slope < LEAST_SLOPE:
        return Logistic(slope=LEAST_SLOPE, offset=offset + (slope - LEAST_SLOPE) * float(x.mean()))
    return Logistic(slope=float(slope), offset=offset)


def fit_linear(
    x: Array, true: NDArray[np.bool_], weights: Array | None = None, ridge: float = 0.0
) -> tuple[Array, float]:
    """Fit log-odds that are linear in several numbers.

    Args:
        x: (N,F).
        true: bool (N,).
        weights: How much each row counts; None: all the same.
        ridge: What half the square of a coefficient costs, of numbers that deviate by 1.

    Returns:
        Coefficients (F,), and what is added.
    """
    positive, negative = true.sum(), (~true).sum()
    target = np.where(true, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weights = np.ones(len(x)) if weights is None else weights
    centre, width = x.mean(axis=0), x.std(axis=0)
    width = np.where(width > 0, width, 1.0)
    inputs = np.column_stack([(x - centre) / width, np.ones(len(x))])
    penalty = np.full(inputs.shape[1], ridge)
    penalty[-1] = 0.0

    def loss(parameters: Array) -> float:
        scores = inputs @ parameters
        entropy = (weights * (np.logaddexp(0.0, scores) - target * scores)).sum()
        return float(entropy + (penalty * parameters**2).sum() / 2)

    parameters = np.zeros(inputs.shape[1])
    least = loss(parameters)
    damping = np.diag(penalty + RIDGE * weights.sum())
    for _ in range(STEPS):
        p = sigmoid(inputs @ parameters)
        gradient = inputs.T @ (weights * (p - target)) + penalty * parameters
        curvature = (inputs * (weights * p * (1 - p))[:, None]).T @ inputs
        step, size = np.linalg.solve(curvature + damping, gradient), 1.0
        while size > 1e-8 and loss(parameters - size * step) > least:
            size /= 2
        if size <= 1e-8 or least - loss(parameters - size * step) < 1e-12:
            break
        parameters = parameters - size * step
        least = loss(parameters)
    coefficients = parameters[:-1] / width
    return coefficients, float(parameters[-1] - coefficients @ centre)
