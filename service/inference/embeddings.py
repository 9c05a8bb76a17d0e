"""Vectors of clips and texts, to be compared by cosine. V views, K texts, D vector length.

The cosine of a clip's vector with a text's is what `shortlist` orders labels by. It is not the
`similarity` of an answer: there the label has first attended to the clip.
"""

from __future__ import annotations

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
LITTLE_ENDIAN = np.dtype("<f4")


def unit(vectors: Vectors) -> Vectors:
    """Scale rows (…,D) to length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def write_vectors(vectors: Vectors, *, as_base64: bool) -> list[list[float]] | list[str]:
    """Return each vector (K,D) as numbers, or as its bytes in base64."""
    if not as_base64:
        return [vector.tolist() for vector in vectors]  # others may go between
    return [b64encode(vector.astype(LITTLE_ENDIAN).tobytes()).decode() for vector in vectors]


def clip_vector(views: Vectors, *, normalize: bool) -> Vectors:
    """Return the one vector (D,) of a clip's views (V,D).

    Args:
        views: What the video encoder gave.
        normalize: The mean of the views' unit vectors, scaled to length 1, whose order of cosines
            is that of the mean cosine; else the mean of the views as they are.
    """
    if normalize:
        return unit(unit(views).mean(axis=0, dtype=np.float32))
    return np.asarray(views.mean(axis=0, dtype=np.float32))
