"""From a torch module to an ONNX file with named inputs, outputs and free axes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from export.bundle import GraphInfo, TensorInfo
from export.bundle.manifest import GraphName
from export.errors import ExportError
from export.simplify import simplify
from model.command_line import first_line

# The newest that ONNX Runtime, OpenVINO and TensorRT all read; has GELU as one operator.
OPSET = 20
# Above this, weights lie beside the graph: they can be memory-mapped, and a graph file of 2 GiB or
# more does not exist.
MAX_INLINE_BYTES = 32 * 2**20
DTYPES: dict[torch.dtype, Literal["uint8", "int64", "float32"]] = {
    torch.uint8: "uint8",
    torch.int64: "int64",
    torch.float32: "float32",
}


@dataclass(frozen=True)
class Traced:
    """A module with example inputs; `axes` names the axes of each input that may vary.

    Every example axis that varies must be 2 or more: tracing takes 1 for a constant.
    """

    name: GraphName
    module: torch.nn.Module
    examples: Mapping[str, torch.Tensor]
    axes: Mapping[str, Mapping[int, str]]
    outputs: Mapping[str, Sequence[int | str]]


def write_graph(traced: Traced, folder: Path) -> GraphInfo:
    """Trace the module and write `NAME.onnx`, large weights to `NAME.onnx.data`."""
    file = folder / f"{traced.name}.onnx"
    with _quiet():
        try:
            program = torch.onnx.export(
                traced.module,
                tuple(traced.examples.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(traced.examples),
                output_names=list(traced.outputs),
                dynamic_shapes=tuple(dict(traced.axes[name]) for name in traced.examples),
                verbose=False,
            )
        except Exception as error:  # the exporter's own exception types are not public
            raise ExportError(f"{traced.name} cannot be traced: {first_line(error)}") from error
        if program is None:
            raise ExportError(f"{traced.name} cannot be traced: the exporter gave no program")
        simplify(program.model)
        check_graph(program.model, traced)
        stored = (value.const_value for value in program.model.graph.initializers.values())
        weights = sum(tensor.nbytes for tensor in stored if tensor is not None)
        program.save(file, external_data=weights > MAX_INLINE_BYTES)
    return GraphInfo(file=file.name, inputs=_inputs(traced), outputs=_outputs(traced))


def check_graph(graph_model: Any, traced: Traced) -> None:
    """Refuse a graph with other names, frozen axes, foreign operators or results nobody uses."""
    graph = graph_model.graph
    names = [value.name for value in graph.inputs], [value.name for value in graph.outputs]
    if names != (list(traced.examples), list(traced.outputs)):
        raise ExportError(f"{traced.name} has other inputs and outputs than named: {names}")
    for value in graph.inputs:
        for axis, free in traced.axes[value.name].items():
            if isinstance(value.shape[axis], int):
                raise ExportError(f"{traced.name}: axis {free} of {value.name} was frozen")
    used = {id(value) for node in graph.all_nodes() for value in node.inputs if value is not None}
    used |= {id(value) for value in graph.outputs}
    for node in graph.all_nodes():
        if node.domain:
            raise ExportError(
                f"{traced.name} needs the foreign operator {node.domain}.{node.op_type}"
            )
        if not any(id(value) in used for value in node.outputs):
            raise ExportError(f"{traced.name} computes {node.name}, which nothing uses")


def _inputs(traced: Traced) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            name=name,
            dtype=DTYPES[tensor.dtype],
            shape=tuple(traced.axes[name].get(i, size) for i, size in enumerate(tensor.shape)),
        )
        for name, tensor in traced.examples.items()
    )


def _outputs(traced: Traced) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name=name, dtype="float32", shape=tuple(shape))
        for name, shape in traced.outputs.items()
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's reports of its own deprecations and steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
