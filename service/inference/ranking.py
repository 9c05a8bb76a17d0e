"""Logits to ranked predictions. V views, K labels, N negatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from export.bundle.calibration import COVERAGES, Logistic
from service.contract.answer import Prediction
from service.contract.request import Question
from service.inference.open_set import Array, probabilities, rule_of, sigmoid, softmax
from service.inference.rivals import Rivals, contrast_of, rivals_together

NATIVE = Logistic()  # a network that was trained by a sigmoid: that of its logits


@dataclass(frozen=True)
class Ranking:
    """What a question gets of the logits of one clip: see `Classification`."""

    predictions: tuple[Prediction, ...]
    none_of_these: float | None = None
    label_set: tuple[str, ...] | None = None


def rank(
    labels: Sequence[str],
    logits: NDArray[np.float32],
    question: Question,
    manifest: BundleManifest,
    negatives: NDArray[np.float32] | None = None,
    rivals: Rivals | None = None,
) -> Ranking:
    """Rank labels, best first, ties in the order asked.

    Each number is the mean of those of the views. The score is the softmax over labels (as
    published multi-view testing sums it), so it is 1 in sum before `top_k` cuts; or the sigmoid
    of each logit.

    Args:
        labels: K names.
        logits: Those of the labels, (V,K).
        question: What is asked; the bundle must be able to answer it (`check_answerable`).
        manifest: Of the bundle.
        negatives: Logits (V,N) of labels that are not meant; needed for `open_set`.
        rivals: Indices (K,R) of the rivals of each label; needed where there is a `contrast_of`.

    Raises:
        ArithmeticError: A logit is no finite number.
    """
    if not np.isfinite(logits).all():
        raise ArithmeticError("the network gives no finite number")
    wide = logits.astype(np.float64)
    if question.scores == "sigmoid":
        scores = _each_for_itself(wide, question, manifest, rivals).mean(axis=0)
    else:
        scores = softmax(wide).mean(axis=0)
    means = wide.mean(axis=0)
    order = np.lexsort((-means, -scores))[: question.top_k]
    predictions = tuple(
        Prediction(labels[i], score, logit, similarity, i)
        for i, score, logit, similarity in zip(
            order.tolist(),
            scores[order].tolist(),
            means[order].tolist(),
            ((means[order] - manifest.logit_bias) / manifest.logit_scale).tolist(),
            strict=True,
        )
    )
    none_of_these = None
    if question.open_set:
        assert negatives is not None
        none_of_these, each = _open_set(logits, negatives, manifest)
        for prediction, probability in zip(predictions, each[order].tolist(), strict=True):
            prediction.probability = probability
    return Ranking(predictions, none_of_these, _covering(labels, wide, question, manifest))


def _each_for_itself(
    logits: Array, question: Question, manifest: BundleManifest, rivals: Rivals | None
) -> Array:
    """Return the probability of each label, (V,K), whatever is true of others."""
    contrast, scale = contrast_of(question, manifest), _sigmoid_of(manifest)
    if contrast is not None and logits.shape[1] > 1:
        assert rivals is not None
        logits = logits - contrast.share * rivals_together(logits, rivals)
        scale = contrast.known
    return sigmoid(scale.slope * logits + scale.offset)


def _sigmoid_of(manifest: BundleManifest) -> Logistic:
    if manifest.native_sigmoid or manifest.calibration is None:
        return NATIVE
    return manifest.calibration.sigmoid


def _open_set(
    logits: NDArray[np.float32], negatives: NDArray[np.float32], manifest: BundleManifest
) -> tuple[float, Array]:
    if not np.isfinite(negatives).all():
        raise ArithmeticError("the network gives no finite number")
    return probabilities(logits, negatives, rule_of(manifest.calibration))


def _covering(
    labels: Sequence[str], logits: Array, question: Question, manifest: BundleManifest
) -> tuple[str, ...] | None:
    """Return the labels, best first, that are as likely as the true one of so many clips was."""
    if question.coverage is None:
        return None
    calibration = manifest.calibration
    assert calibration is not None
    shares = softmax(logits / calibration.temperature).mean(axis=0)
    # the next of the stored ones that covers as much
    index = min(math.ceil(100 * question.coverage - 1e-9) - 50, len(COVERAGES) - 1)
    strangest = calibration.conformal[index]
    order = np.argsort(-shares, kind="stable")
    return tuple(labels[i] for i in order.tolist() if 1 - shares[i] <= strangest)
