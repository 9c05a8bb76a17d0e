"""Ten short labels at their own length against the same ten padded to the full context.

    python -m benchmarks.text_length

The text encoder's cost must follow the longest label of a request, not the 77 tokens that CLIP was
published with. Goal: at least 5 times faster.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np

from benchmarks.lib.bundles import bundle_of
from benchmarks.lib.timing import as_row, publish, take_turns
from export.reference import pad_to_context
from export.runtime import open_runtime

VARIANT, ROUNDS, GOAL = "xclip-base-patch32", 20, 5.0
LABELS = [
    "abseiling", "air drumming", "answering questions", "applauding", "archery",
    "arm wrestling", "baking cookies", "bee keeping", "belly dancing", "blowing glass",
]  # fmt: skip


def main() -> int:
    """Measure; the exit status says whether the goal was met."""
    bundle = bundle_of(VARIANT, ("fp32",))
    spec = bundle.manifest.inputs
    short = bundle.tokenizer().encode(LABELS, spec.context_length, spec.pad_id)
    full = pad_to_context(short, spec)
    rows = []
    for name in ("onnxruntime-cpu", "openvino"):
        runtime = open_runtime(bundle, name)
        np.testing.assert_allclose(
            runtime.encode_text(short), runtime.encode_text(full), rtol=1e-3, atol=1e-3
        )
        timings = take_turns(
            {
                "own length": partial(runtime.encode_text, short),
                "padded": partial(runtime.encode_text, full),
            },
            ROUNDS,
        )
        ratio = timings["padded"].median_ms / timings["own length"].median_ms
        tokens = {"own length": short.shape[1], "padded": full.shape[1]}
        for kind, timing in timings.items():
            faster = ratio if kind == "own length" else 1.0
            row = as_row(f"{name}, {kind}", timing, tokens=tokens[kind], times_faster=faster)
            rows.append(row)
        runtime.close()
    publish("text_length", "python -m benchmarks.text_length", rows, variant=VARIANT, goal=GOAL)
    return 0 if all(row["times_faster"] >= GOAL for row in rows[::2]) else 1


if __name__ == "__main__":
    sys.exit(main())
