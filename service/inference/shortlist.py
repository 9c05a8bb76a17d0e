"""The labels nearest to a clip by plain cosine: candidates for the score head, which is exact.

V views, K labels, D vector length, M candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest

VIDEO = "video"  # the feature that lies in the space of the label vectors


def can_compare(manifest: BundleManifest) -> bool:
    """Tell whether the network gives a clip vector as long as its label vectors."""
    outputs = manifest.graphs["video_encoder"].outputs
    return any(out.name == VIDEO and out.shape[1:] == (manifest.text_dim,) for out in outputs)


def nearest(video: NDArray[np.float32], text: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Find the `count` labels (K,D) with the largest cosine to the views (V,D).

    Returns their indices, ascending. The cosine is the mean over views. Of equals those that were
    asked first are taken.
    """
    tiny = np.finfo(np.float32).tiny
    views = video / np.maximum(np.linalg.norm(video, axis=1, keepdims=True), tiny)
    # Sums of products without a BLAS, whose threads would not keep to the processors we may use,
    # and without a second array of the size of the text.
    lengths = np.sqrt(np.einsum("kd,kd->k", text, text))
    cosines = np.einsum("kd,d->k", text, views.mean(axis=0)) / np.maximum(lengths, tiny)
    return np.sort(np.argsort(-cosines, kind="stable")[:count])
