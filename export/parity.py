"""How far a runtime is from torch, over several numbers of clips, labels and tokens.

B clips, K labels, L tokens, D vector length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from export.bundle import Parity, ParityCase
from export.bundle.manifest import PrecisionName, RuntimeName
from export.limits import LIMITS
from export.reference import Reference
from export.runtime import Runtime, Vectors
from model.inputs import InputSpec

CLIP_COUNTS, LABEL_COUNTS = (1, 3), (1, 10, 400)
# Two labels that torch puts this near each other have no order to keep, in logits.
TIE = 1e-4


def compare(
    runtime: Runtime,
    name: RuntimeName,
    precision: PrecisionName,
    expected: Reference,
    spec: InputSpec,
) -> Parity:
    """Run every case and measure; the result holds each case and the worst of all."""
    cosines: dict[str, float] = {}
    cases = []
    for clips in CLIP_COUNTS:
        # Fewer clips than a case wants: they are taken again, so that the batch has its size.
        chosen = np.arange(clips) % len(expected.clips.frames)
        features = runtime.encode_video(expected.clips.frames[chosen])
        for key, value in features.items():
            _note(cosines, key, cosine(value, expected.features[key][chosen]))
        for ids in _label_lists(expected.token_ids, spec):
            text = runtime.encode_text(ids)
            _note(cosines, "text", cosine(text, expected.text[: len(ids)]))
            logits = runtime.score(features, np.broadcast_to(text, (clips, *text.shape)))
            answer = expected.logits[chosen, : len(ids)]
            cases.append(_measure(logits, answer, tokens=ids.shape[1]))
    return _summary(name, precision, expected, tuple(cases), cosines)


def cosine(values: Vectors, expected: Vectors) -> float:
    """Return the smallest cosine between vectors along the last axis; 1 where there are none."""
    if not values.size:
        return 1.0
    norms = np.linalg.norm(values, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float(((values * expected).sum(-1) / norms).min())


def inverted_gap(logits: Vectors, expected: Vectors) -> float:
    """Measure how far apart `expected` puts two labels that `logits` puts in the other order."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(expected, order, axis=-1)
    lowest_so_far = np.minimum.accumulate(ranked, axis=-1)
    return float((ranked - lowest_so_far).max())


def _label_lists(token_ids: NDArray[np.int64], spec: InputSpec) -> Iterator[NDArray[np.int64]]:
    """Yield lists of each length, cut to their longest label, and one at the full context.

    What the network reads at the full context alone is not cut.
    """
    if spec.tokenizer.pad == "fixed":
        yield from (token_ids[:count] for count in LABEL_COUNTS)
        return
    for count in LABEL_COUNTS:
        ids = token_ids[:count]
        longest = int(np.flatnonzero((ids != spec.pad_id).any(0))[-1]) + 1
        yield np.ascontiguousarray(ids[:, :longest])
    yield token_ids[: LABEL_COUNTS[1]]


def _measure(logits: Vectors, expected: Vectors, tokens: int) -> ParityCase:
    if not np.isfinite(logits).all():
        raise ValueError("the runtime gives logits that are no numbers; the graph is wrong")
    return ParityCase(
        clips=logits.shape[0],
        labels=logits.shape[1],
        token_length=tokens,
        max_logit_error=float(np.abs(logits - expected).max()),
        inverted_gap=inverted_gap(logits, expected),
        top1_agreement=float((logits.argmax(1) == expected.argmax(1)).mean()),
    )


def _summary(
    name: RuntimeName,
    precision: PrecisionName,
    expected: Reference,
    cases: tuple[ParityCase, ...],
    cosines: dict[str, float],
) -> Parity:
    allowed = LIMITS[precision]
    error = max(case.max_logit_error for case in cases)
    same_order = all(case.inverted_gap <= TIE for case in cases)
    near = error <= allowed.logit_error and min(cosines.values()) >= allowed.cosine
    return Parity(
        runtime=name,
        precision=precision,
        clips=expected.clips.names,
        clip_source=expected.clips.source,
        cases=cases,
        max_logit_error=error,
        min_cosine=cosines,
        top1_agreement=float(np.mean([case.top1_agreement for case in cases])),
        same_order=same_order,
        logit_limit=allowed.logit_error,
        cosine_limit=allowed.cosine,
        passed=near and (same_order or precision != "fp32"),
    )


def _note(worst: dict[str, float], key: str, value: float) -> None:
    worst[key] = min(worst.get(key, 1.0), value)
