"""Part one: how far every runtime, precision and variant is from torch in fp32.

N clips, K texts, D vector length.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.contestant import Answers, Network, smallest_cosine
from benchmarks.gpu_check.outcomes import OutsideLimits, Row, attempted, opened

# Labels of one question; 400 texts are 40 questions about each clip.
CHOICES = 10


def parity(check: Check) -> Iterator[Row]:
    """Compare torch on the device and each runtime, in each precision, variant by variant.

    The measure is torch in fp32 on the processor, on the same weights and clips.
    """
    for variant in check.options.variants:
        what = {"variant": variant, "what": "our torch"}
        expected, failure = opened(what, partial(_expected, check, variant))
        if expected is None:
            yield failure or what
            continue
        for name, precision, open_network in _networks(check, variant):
            yield attempted(
                {"variant": variant, "what": name, "precision": precision},
                partial(_compared, open_network, precision, expected),
            )


def _expected(check: Check, variant: str) -> tuple[Any, np.ndarray, Answers]:
    """Return what is shown, texts, and torch's answers."""
    from benchmarks.gpu_check.clips import shown, texts
    from benchmarks.gpu_check.torch_network import TorchNetwork

    net = check.network(variant)
    clips, ids = shown(check.options.clips, net.inputs), texts(net.config)
    return clips, ids, TorchNetwork(net, "cpu", "fp32").answers(clips.frames, ids)


def _networks(check: Check, variant: str) -> Iterator[tuple[str, str, Any]]:
    from benchmarks.gpu_check.torch_network import TorchNetwork

    net, device = check.network(variant), check.device
    for precision in check.options.precisions:
        if precision != "int8":
            yield "our torch", precision, partial(TorchNetwork, net, device.name, precision)
    for runtime in device.runtimes:
        for precision in check.options.precisions:
            yield runtime, precision, partial(check.bundles.open, variant, runtime, precision)


def _compared(open_network: Any, precision: str, expected: tuple[Any, np.ndarray, Answers]) -> Row:
    clips, ids, answers = expected
    network: Network = open_network()
    try:
        figures = differences(network.answers(clips.frames, ids), answers)
    finally:
        network.close()
    return _within_limits({**figures, "clips": clips.source}, precision)


def differences(answers: Answers, expected: Answers) -> Row:
    """Return the largest logit error, the smallest cosine, and agreement on the best of ten.

    Each clip is asked to choose between ten texts, forty times: one choice among 400 would say
    little about a share of 99.5 %.
    """
    if not (np.isfinite(answers.logits).all() and np.isfinite(answers.video).all()):
        raise ValueError("answers that are no numbers")
    best, right = (_choices(a.logits) for a in (answers, expected))
    return {
        "logit_error": float(np.abs(answers.logits - expected.logits).max()),
        "cosine": smallest_cosine(answers.video, expected.video),
        "top1_agreement": float((best == right).mean()),
        "choices": best.size,
    }


def _choices(logits: np.ndarray) -> np.ndarray:
    """Return the best of each ten texts (N,K/10) by logits (N,K)."""
    best: np.ndarray = logits.reshape(len(logits), -1, CHOICES).argmax(axis=2)
    return best


def _within_limits(figures: Row, precision: str) -> Row:
    """Return the figures; raise if they are not as near as `python -m export` asks."""
    from export.limits import LIMITS

    allowed = LIMITS[precision]  # type: ignore[index]
    error, near = figures["logit_error"], figures["cosine"]
    if error > allowed.logit_error or near < allowed.cosine:
        raise OutsideLimits(
            f"too far from torch: logits differ by {error:.2g} (limit {allowed.logit_error:g}), "
            f"smallest cosine {near:.6f} (limit {allowed.cosine:g})",
            figures,
        )
    return figures
