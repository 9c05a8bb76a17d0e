"""The sizes that TensorRT prepares a graph for: smallest, usual and largest of each free axis."""

from __future__ import annotations

from collections.abc import Mapping

from export.bundle import GraphInfo
from export.runtime.contract import PAIRS_PER_RUN, TEXTS_PER_RUN

MAX_CLIPS = 64
Range = tuple[int, int, int]
RANGES: Mapping[str, Range] = {"B": (1, 8, MAX_CLIPS), "K": (1, 64, PAIRS_PER_RUN)}
TEXTS: Range = (1, 64, TEXTS_PER_RUN)
USUAL_TOKENS = 16

Shape = tuple[int, ...]


def profile(graph: GraphInfo, context_length: int) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Return the smallest, usual and largest shape of each input of a graph."""
    return {
        tensor.name: (
            _shape(tensor.shape, 0, graph, context_length),
            _shape(tensor.shape, 1, graph, context_length),
            _shape(tensor.shape, 2, graph, context_length),
        )
        for tensor in graph.inputs
    }


def _shape(
    axes: tuple[int | str, ...], end: int, graph: GraphInfo, context_length: int
) -> tuple[int, ...]:
    ranges = dict(RANGES)
    if any(tensor.name == "token_ids" for tensor in graph.inputs):
        ranges = {"K": TEXTS, "L": (1, min(USUAL_TOKENS, context_length), context_length)}
    return tuple(size if isinstance(size, int) else ranges[size][end] for size in axes)
