"""The comparison finds what it is there to find."""

from __future__ import annotations

import numpy as np
import pytest

from export.bundle import Bundle
from export.bundle.manifest import Parity, PrecisionName
from export.clips import generated_clips
from export.parity import CLIP_COUNTS, LABEL_COUNTS, compare, cosine, inverted_gap
from export.reference import Reference, torch_answers, verification_prompts
from export.runtime import Features, Runtime, RuntimeOptions, Vectors, open_runtime
from model.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Checkpoint) -> Reference:
    assert tiny_checkpoint.tokenizer is not None
    clips = generated_clips(tiny_checkpoint.net.inputs)
    return torch_answers(tiny_checkpoint.net, tiny_checkpoint.tokenizer, clips)


class Bent:
    """A runtime whose answers are wrong in one way."""

    def __init__(self, runtime: Runtime, how: str) -> None:
        self.runtime, self.how = runtime, how

    def encode_video(self, frames: np.ndarray) -> Features:
        if self.how == "swapped clips" and len(frames) > 1:
            frames = frames[::-1]
        features = dict(self.runtime.encode_video(frames))
        if self.how == "turned context":
            features["context"] = features["context"][..., ::-1].copy()
        return features

    def encode_text(self, token_ids: np.ndarray) -> Vectors:
        if self.how == "lost token":
            token_ids = token_ids.copy()
            token_ids[:, 1] = token_ids[:, 0]
        return self.runtime.encode_text(token_ids)

    def score(self, features: Features, text: Vectors) -> Vectors:
        logits = self.runtime.score(features, text)
        if self.how == "swapped labels":
            logits = logits[:, ::-1]
        if self.how == "off by 0.002":
            logits = logits + 0.002
        if self.how == "no number":
            logits[0, 0] = np.nan
        return logits


def measure(
    bundle: Bundle, expected: Reference, how: str, precision: PrecisionName = "fp32"
) -> Parity:
    bent = Bent(open_runtime(bundle, "onnxruntime-cpu", options=RuntimeOptions(threads=1)), how)
    return compare(bent, "onnxruntime-cpu", precision, expected, bundle.manifest.inputs)  # type: ignore[arg-type]


def test_a_faithful_runtime_passes_every_case(tiny_bundle: Bundle, expected: Reference) -> None:
    parity = measure(tiny_bundle, expected, "faithful")
    assert parity.passed
    assert parity.max_logit_error < 1e-4
    assert parity.same_order
    sizes = {(case.clips, case.labels) for case in parity.cases}
    assert sizes == {(b, k) for b in CLIP_COUNTS for k in LABEL_COUNTS}
    assert len({case.token_length for case in parity.cases}) >= 3


@pytest.mark.parametrize(
    "how", ["swapped clips", "turned context", "lost token", "swapped labels", "off by 0.002"]
)
def test_every_mistake_fails(tiny_bundle: Bundle, expected: Reference, how: str) -> None:
    assert not measure(tiny_bundle, expected, how).passed


def test_a_reduced_precision_has_its_own_limit(tiny_bundle: Bundle, expected: Reference) -> None:
    assert measure(tiny_bundle, expected, "off by 0.002", "bf16").passed
    assert not measure(tiny_bundle, expected, "swapped labels", "int8").passed


def test_logits_that_are_no_numbers_are_never_accepted(
    tiny_bundle: Bundle, expected: Reference
) -> None:
    with pytest.raises(ValueError, match="no numbers"):
        measure(tiny_bundle, expected, "no number")


def test_prompts_are_many_and_differ_in_length() -> None:
    prompts = verification_prompts()
    assert len(set(prompts)) == len(prompts) == max(LABEL_COUNTS)
    assert {len(p.split()) for p in prompts} >= {1, 3, 4, 6}


@pytest.mark.parametrize(
    ("logits", "gap"),
    [([[3, 2, 1]], 0), ([[3, 1, 2]], 1), ([[1, 2, 3]], 4), ([[9, 8, 7], [1, 3, 2]], 4)],
)
def test_inverted_gap_is_the_worst_wrong_order(logits: list[list[float]], gap: float) -> None:
    wanted = np.array([[5.0, 2.0, 1.0]] * len(logits), np.float32)
    assert inverted_gap(np.array(logits, np.float32), wanted) == gap


def test_cosine_is_the_worst_row_and_one_for_none() -> None:
    a = np.array([[1, 0], [1, 0]], np.float32)
    assert cosine(a, np.array([[2, 0], [0, 3]], np.float32)) == 0
    assert cosine(np.zeros((2, 0, 4), np.float32), np.zeros((2, 0, 4), np.float32)) == 1
