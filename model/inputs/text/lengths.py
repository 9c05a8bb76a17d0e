"""Texts in batches of like length: what a batch costs follows its longest text.

K texts, L tokens, D vector length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from model.inputs.spec import PadRule

TokenIds = NDArray[np.int64]
Vectors = NDArray[np.float32]
TOKENS_PER_BATCH = 4096


def token_lengths(ids: TokenIds, pad: PadRule = "longest") -> NDArray[np.int64]:
    """Count the tokens of each text (K,) of ids (K,L) that its network reads.

    That is up to the end token of CLIP; of texts that are padded to a fixed length, all.
    """
    if pad == "fixed":
        return np.full(len(ids), ids.shape[1], np.int64)
    # The end token has the largest id, so its first place is where the text ends.
    return ids.argmax(axis=1) + 1


def batches_by_length(lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows to run together, shortest texts first.

    A batch, padded to its longest text, has at most `most` tokens, but one row at least.
    """
    order = np.argsort(lengths, kind="stable")
    first = 0
    for last in range(1, len(order) + 1):
        full = last < len(order) and (last - first + 1) * lengths[order[last]] > most
        if full or last == len(order):
            yield order[first:last]
            first = last


def encode_by_length(
    encode: Callable[[TokenIds], Vectors],
    ids: TokenIds,
    pad: PadRule = "longest",
    most: int = TOKENS_PER_BATCH,
) -> Vectors:
    """Encode token ids int64 (K,L) to vectors float32 (K,D), like with like.

    `encode` takes a batch (k,l) cut to its longest text and gives vectors (k,D).
    """
    lengths = token_lengths(ids, pad)
    vectors: Vectors | None = None
    for rows in batches_by_length(lengths, most):
        part = encode(np.ascontiguousarray(ids[rows, : lengths[rows].max()]))
        if vectors is None:
            vectors = np.empty((len(ids), part.shape[1]), np.float32)
        vectors[rows] = part
    if vectors is None:
        raise ValueError("there are no texts to encode")
    return vectors
