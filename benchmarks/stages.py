"""Text encoder and score head against transformers' on the same weights, eager and compiled.

    python -m benchmarks.stages [--rounds N]

Text: ten labels at the length of the longest, for everybody. Score head: one encoded clip against
10 and 400 label vectors, from the vectors of the text encoder to logits. Both are fp32 in every
bundle (the cosine at the end needs it); transformers runs in bf16 by autocast, too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.lib.bundles import bundle_of
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.timing import Timing, as_row, publish, take_turns
from benchmarks.lib.torch_modes import Piece, torch_modes
from export.runtime import Runtime, available_cpus, open_runtime
from model.command_line import Parser

VARIANT, LABELS = "xclip-base-patch32", (10, 400)
RUNTIMES = ("onnxruntime-cpu", "openvino")


def main() -> int:
    """Measure and publish."""
    parser = Parser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (15)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(available_cpus())
    bundle = bundle_of(VARIANT, ("fp32",))
    spec = bundle.manifest.inputs
    ids = bundle.tokenizer().encode(labels(LABELS[0]), spec.context_length, spec.pad_id)
    theirs = _model()
    runtimes = {name: open_runtime(bundle, name, "fp32") for name in RUNTIMES}
    stages = {f"text, {LABELS[0]} labels": text(theirs, runtimes, ids)}
    for count in LABELS:
        features, vectors = encoded(bundle.manifest.inputs, theirs.config, count)
        stages[f"score, {count} labels"] = score(theirs, runtimes, features, vectors)
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for stage, (contestants, absent) in stages.items():
        rows += rows_of(stage, take_turns(contestants, rounds))
        missing |= {f"{stage}: {name}": why for name, why in absent.items()}
    command = f"python -m benchmarks.stages --rounds {rounds}"
    publish("stages", command, rows, variant=VARIANT, not_run=missing or "none")
    return 0


def labels(count: int) -> list[str]:
    """Return labels of a few words each."""
    return [f"somebody doing thing number {n}" for n in range(count)]


def encoded(spec: Any, config: Any, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make what a clip and its labels may be encoded to: video, context (1,…), text (1,K,D)."""
    random = np.random.default_rng(0)
    patches = (spec.image_size // config.vision_config.patch_size) ** 2
    shapes = {"video": (1, 1), "context": (1, patches), "text": (1, count)}
    drawn = {
        name: random.standard_normal((*shape, config.projection_dim), dtype=np.float32)
        for name, shape in shapes.items()
    }
    return {"video": drawn["video"][:, 0], "context": drawn["context"]}, drawn["text"]


def text(theirs: Any, runtimes: Mapping[str, Runtime], ids: np.ndarray) -> Any:
    """Tell who encodes labels, and who does not run."""
    tokens = torch.from_numpy(ids)
    peers, missing = torch_modes(
        "transformers", lambda: theirs.get_text_features(input_ids=tokens).pooler_output
    )
    ours: dict[str, Piece] = {
        f"{name} fp32": partial(runtime.encode_text, ids) for name, runtime in runtimes.items()
    }
    return peers | ours, missing


def score(theirs: Any, runtimes: Mapping[str, Runtime], features: Any, vectors: np.ndarray) -> Any:
    """Tell who scores labels, and who does not run."""
    video, context = (torch.from_numpy(features[name]) for name in ("video", "context"))
    labels = torch.from_numpy(vectors)

    def head() -> torch.Tensor:
        prompted = labels + theirs.prompts_generator(labels, context)
        cosine = torch.cosine_similarity(prompted, video[:, None], dim=-1)
        return theirs.logit_scale.exp() * cosine

    peers, missing = torch_modes("transformers", head)
    expected = peers["transformers eager fp32"]().numpy()
    for runtime in runtimes.values():
        np.testing.assert_allclose(runtime.score(features, vectors), expected, atol=1e-2)
    ours: dict[str, Piece] = {
        f"{name} fp32": partial(runtime.score, features, vectors)
        for name, runtime in runtimes.items()
    }
    return peers | ours, missing


def rows_of(stage: str, timings: Mapping[str, Timing]) -> list[dict[str, Any]]:
    """Return the table lines of one stage, each with its share of eager fp32's time."""
    base = timings["transformers eager fp32"].median_ms
    return [
        {"stage": stage, **as_row(name, timing, of_eager=timing.median_ms / base)}
        for name, timing in timings.items()
    ]


def _model() -> Any:
    from transformers import XCLIPModel

    import model.torchvision_schemas  # noqa: F401  (before transformers)

    return XCLIPModel.from_pretrained(pretrained(VARIANT)).eval()


if __name__ == "__main__":
    sys.exit(main())
