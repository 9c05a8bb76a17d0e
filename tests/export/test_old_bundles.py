"""Bundles made before load, and answer as they did.

The bundle in the package was made before the code was laid out as it is now; what it answered then
stands in `golden/demo_answers.json`. Numbers are compared within a rounding error: processors
differ in the last bits. A new demo network needs new answers: its bundle's hash tells.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import service
from export.bundle import Bundle, open_bundle
from export.runtime import RuntimeOptions, open_runtime

DEMO = Path(service.__file__).parent / "demo_bundle"
GOLDEN = Path(__file__).parent / "golden" / "demo_answers.json"
LABELS = (
    "a red circle moving left",
    "a red circle moving right",
    "a blue square growing",
    "ein grünes Dreieck",
    "a photo of a very long label that goes on and on about a yellow star turning clockwise slowly",
)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(GOLDEN.read_text())
    return answers


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return open_bundle(DEMO)


def drawn_clip(scene: int, size: int) -> NDArray[np.uint8]:
    """Eight frames (8,size,size,3) of a disc that moves over a noisy ground; integers alone."""
    y, x = np.mgrid[0:size, 0:size]
    frames = []
    for t in range(8):
        center = size // 5 + size * (7 - t if scene == 1 else t) // 12
        inside = (y - size // 2) ** 2 + (x - center) ** 2 < (size * (2 + scene) // 20) ** 2
        colours = [220, 40 * scene, 30], [30, 30, 40 + 20 * scene]
        noise = np.random.default_rng([scene, t]).integers(0, 20, (size, size, 3))
        frames.append(np.where(inside[..., None], *colours) + noise)
    return np.stack(frames).astype(np.uint8)


def test_the_demo_bundle_is_the_one_that_was_asked(demo: Bundle, golden: dict[str, Any]) -> None:
    assert demo.hash == golden["bundle"]


def test_stored_vectors_and_token_ids_are_the_same_to_the_bit(
    demo: Bundle, golden: dict[str, Any]
) -> None:
    vectors = demo.label_set("labels").vectors
    assert hashlib.sha256(vectors.tobytes()).hexdigest() == golden["stored_vectors"]
    assert demo.tokenizer().encode(list(LABELS)).tolist() == golden["token_ids"]


@pytest.mark.parametrize("runtime", ["onnxruntime-cpu", "openvino"])
def test_logits_are_those_of_the_code_before(
    demo: Bundle, golden: dict[str, Any], runtime: str
) -> None:
    size = demo.manifest.inputs.image_size
    clips = np.stack([drawn_clip(scene, size) for scene in range(3)])
    network = open_runtime(demo, runtime, "fp32", RuntimeOptions(threads=1))
    text = network.encode_text(np.array(golden["token_ids"]))
    features = network.encode_video(clips)
    logits = network.score(features, np.broadcast_to(text, (len(clips), *text.shape)))
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)
    network.close()
