"""Logits to ranked predictions. V views, K labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.contract.answer import Prediction


def rank(
    labels: Sequence[str],
    logits: NDArray[np.float32],
    logit_scale: float,
    logit_bias: float,
    top_k: int | None,
) -> tuple[Prediction, ...]:
    """Rank labels by `logits` (V,K), best first, ties in the order asked.

    The score is the mean over views of the softmax over labels (as published multi-view testing
    sums it), so it is 1 in sum before `top_k` cuts. Logit and similarity are means over views.
    ArithmeticError where a logit is no finite number.
    """
    if not np.isfinite(logits).all():
        raise ArithmeticError("the network gives no finite number")
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max(axis=1, keepdims=True))
    scores = (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)
    means = wide.mean(axis=0)
    order = np.lexsort((-means, -scores))[:top_k]
    return tuple(
        Prediction(labels[i], score, logit, similarity, i)
        for i, score, logit, similarity in zip(
            order.tolist(),
            scores[order].tolist(),
            means[order].tolist(),
            ((means[order] - logit_bias) / logit_scale).tolist(),
            strict=True,
        )
    )
