"""Serialise a classification in parts, so that long label lists do not block the event loop."""

from __future__ import annotations

import asyncio

from pydantic import TypeAdapter

from service.contract.answer import Classification, Prediction

AT_ONCE = 1000  # predictions; about two milliseconds
BEFORE = {"model", "video_id"}  # what stands before the predictions

_PREDICTIONS = TypeAdapter(tuple[Prediction, ...])


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
