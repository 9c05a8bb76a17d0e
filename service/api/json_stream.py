"""Serialise long answers in parts, so that they do not block the event loop."""

from __future__ import annotations

import asyncio

from pydantic import TypeAdapter

from service.contract.answer import Classification, Prediction
from service.contract.embeddings import Embedding, Embeddings

AT_ONCE = 1000  # predictions; about two milliseconds
BEFORE = {"model", "video_id"}  # what stands before the predictions

VECTORS_AT_ONCE = 16  # some ten thousand numbers; about a millisecond

_PREDICTIONS = TypeAdapter(tuple[Prediction, ...])
_VECTORS = TypeAdapter(tuple[Embedding, ...])


async def write_answer(answer: Classification) -> bytes:
    """Return the answer as JSON, its fields in the order of the schema."""
    head = answer.model_dump_json(include=BEFORE).encode()
    tail = answer.model_dump_json(exclude=BEFORE | {"predictions"}).encode()
    parts = []
    for first in range(0, len(answer.predictions), AT_ONCE):
        if first:
            await asyncio.sleep(0)  # others go on
        part = _PREDICTIONS.dump_json(answer.predictions[first : first + AT_ONCE])
        parts.append(part[1:-1])  # without its brackets
    return b"".join([head[:-1], b',"predictions":[', b",".join(parts), b"],", tail[1:]])


def write_embeddings(answer: Embeddings) -> bytes:
    """Return vectors as JSON, as `write_answer` does; in a thread, which lets others go between."""
    head = answer.model_dump_json(include={"object"}).encode()
    tail = answer.model_dump_json(exclude={"object", "data"}).encode()
    parts = [
        _VECTORS.dump_json(answer.data[first : first + VECTORS_AT_ONCE])[1:-1]
        for first in range(0, len(answer.data), VECTORS_AT_ONCE)
    ]
    return b"".join([head[:-1], b',"data":[', b",".join(parts), b"],", tail[1:]])
