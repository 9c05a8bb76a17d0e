"""A bundle as a scorer, so that a precision is judged by accuracy and not by distance alone.

`python -m model.evaluate --bundle` finds it by this module's name: the model package knows nothing
of bundles.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bundle import open_bundle
from export.runtime import open_runtime
from model.inputs.text.lengths import encode_by_length


class BundleScorer:
    """Scores clips as the service would, on one runtime and precision of a bundle."""

    def __init__(
        self,
        path: Path,
        runtime: str = "auto",
        precision: str | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        self.bundle = open_bundle(path)
        own = self.bundle.manifest.templates
        self.templates = own if templates is None else tuple(templates)
        self.runtime = open_runtime(self.bundle, runtime, precision)
        self.inputs = self.bundle.manifest.inputs
        self.tokenizer = self.bundle.tokenizer()
        self.variant = self.bundle.manifest.variant
        name = self.bundle.manifest.name
        self.name = f"{name} ({self.runtime.name}, {self.runtime.precision})"

    @property
    def bytes(self) -> int:
        """Size of what is read for the precision it runs in: graphs with their weights."""
        read = self.bundle.manifest.files_for(self.runtime.precision)
        return sum(self.bundle.file(f).stat().st_size for f in read if ".onnx" in f)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode K texts to vectors (K,D)."""
        spec = self.inputs
        ids = self.tokenizer.encode(texts, spec.context_length, spec.pad_id)
        return encode_by_length(self.runtime.encode_text, ids, spec.tokenizer.pad)

    def logits(self, frames: NDArray[np.uint8], texts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score frames uint8 (N,T,H,W,3) against vectors (K,D): logits (N,K)."""
        features = self.runtime.encode_video(np.ascontiguousarray(frames))
        same = np.ascontiguousarray(np.broadcast_to(texts, (len(frames), *texts.shape)))
        return self.runtime.score(features, same)
