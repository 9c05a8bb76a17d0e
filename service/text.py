"""Prompts to vectors, in batches of like length: the cost of a batch follows its longest text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.runtime import Runtime
from model.inputs import InputSpec, LabelTooLong, Tokenizer
from service.errors import ApiError
from service.lane import Lane

BATCH = 128  # small enough that a video does not wait long behind one


class TextEncoder:
    """Runs the text graph on the inference lane."""

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer, spec: InputSpec, lane: Lane) -> None:
        self._runtime, self._tokenizer, self._spec, self._lane = runtime, tokenizer, spec, lane

    async def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (K,D). ApiError `label_too_long` names a text with too many tokens."""
        spec = self._spec
        try:
            ids = self._tokenizer.encode(prompts, spec.context_length, spec.pad_id)
        except LabelTooLong as error:
            raise ApiError("label_too_long", str(error)) from None
        # The end token is the largest id, so its first place is where each text ends.
        lengths = ids.argmax(axis=1) + 1
        order = np.argsort(lengths, kind="stable")
        vectors: NDArray[np.float32] | None = None
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = np.ascontiguousarray(ids[rows, : lengths[rows].max()])
            encoded, _, _ = await self._lane.run(partial(self._runtime.encode_text, batch))
            if vectors is None:
                vectors = np.empty((len(order), encoded.shape[1]), np.float32)
            vectors[rows] = encoded
        assert vectors is not None
        return vectors
