"""Cleaning a traced graph: nothing computed twice or for nobody, nothing said about our files."""

from __future__ import annotations

from typing import Any

import onnx_ir.passes.common as passes
from onnx_ir.passes import Sequential


def simplify(model: Any) -> None:
    """Rewrite an onnx_ir model in place; its results stay the same to the last bit.

    The tracer notes the source lines and folders of the machine it ran on in every node: longer
    than a small network, and nobody's business.
    """
    _look_at_the_cast(model)
    Sequential(
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.TopologicalSortPass(),
        passes.ClearMetadataAndDocStringPass(),
    )(model)
    for value in model.graph.all_nodes():
        for output in value.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()


def drop_unused(model: Any) -> None:
    """Remove nodes and weights that a rewriting has left unused."""
    Sequential(passes.RemoveUnusedNodesPass())(model)


def _look_at_the_cast(model: Any) -> None:
    """Ask what a cast input was cast to for its shape, which is the same: see `VideoEncoder`."""
    for value in model.graph.inputs:
        casts = [use.node for use in value.uses() if use.node.op_type == "Cast"]
        shapes = [use.node for use in value.uses() if use.node.op_type == "Shape"]
        if len(casts) == 1:
            for shape in shapes:
                shape.replace_input_with(0, casts[0].outputs[0])
