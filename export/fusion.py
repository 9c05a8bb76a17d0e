"""Attention as one operator, for ONNX Runtime's CUDA provider.

Traced, an attention is two dozen small operators, whose table of weights (tokens × tokens for each
head) is written to memory and read again. The provider's own `Attention` takes input, packed
weights and bias and never writes that table. ONNX Runtime finds BERT's attention by itself, but
not this form; its offline optimizer neither.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from export.simplify import drop_unused

DOMAIN = "com.microsoft"


def fuse_attention(model: ir.Model) -> int:
    """Rewrite every self-attention of a graph in place; return how many there were.

    The form is that of `model.network.transformer.SelfAttention`, unmasked: packed projection
    (N,S,3·D), heads split off, softmax(q·k)·v, heads joined to (N,S,D).
    """
    count = 0
    for split in list(model.graph):
        ends = _ends(split)
        if ends is None:
            continue
        projection, bias, heads, joined = ends
        value = joined.outputs[0]
        fused = ir.Node(
            DOMAIN,
            "Attention",
            [*projection.inputs, bias],
            [ir.AttrInt64("num_heads", heads)],
            outputs=[ir.Value(name=f"{value.name}.fused", shape=value.shape, type=value.type)],
            name=f"attention_{count}",
        )
        model.graph.insert_after(joined, fused)
        value.replace_all_uses_with(fused.outputs[0], replace_graph_outputs=True)
        count += 1
    if count:
        model.opset_imports[DOMAIN] = 1
        drop_unused(model)
    return count


def _ends(split: ir.Node) -> tuple[ir.Node, ir.Value, int, ir.Node] | None:
    """Match the attention around `split`: its projection, bias, heads and last node."""
    if split.op_type != "Transpose" or split.attributes.get_ints("perm") != (2, 0, 3, 1, 4):
        return None
    packed = split.inputs[0]
    if packed is None or packed.shape is None or packed.shape[2] != 3:
        return None
    heads = packed.shape[3]
    add = _made_by(packed, "Reshape", "Add")
    if add is None or not isinstance(heads, int):
        return None
    sides = sorted(add.inputs, key=lambda value: value is not None and value.is_initializer())
    projection, bias = sides[0], sides[1]
    if projection is None or bias is None or projection.producer() is None:
        return None
    product = projection.producer()
    between = set(_following(split))
    softmaxes = {node for node in between if node.op_type == "Softmax"}
    if any(node.op_type == "Concat" and _is_float(node.outputs[0]) for node in between):
        return None  # keys of other frames beside the own
    if product is None or product.op_type != "MatMul" or len(softmaxes) != 1:
        return None
    softmax = softmaxes.pop()
    if _made_by(softmax.inputs[0], "MatMul") is None:  # something in between: a mask
        return None
    joined = _used_by(softmax.outputs[0], "MatMul", "Transpose", "Reshape")
    return None if joined is None else (product, bias, heads, joined)


def _made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Follow a chain of operators backwards from a value; return the first node of it."""
    node: ir.Node | None = None
    for operator in operators:
        node = value.producer() if value is not None else None
        if node is None or node.op_type != operator or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return node


def _used_by(value: ir.Value, *operators: str) -> ir.Node | None:
    """Follow a chain of operators, each the only user of the one before; return the last."""
    node: ir.Node | None = None
    for operator in operators:
        uses = list(value.uses())
        node = uses[0].node if len(uses) == 1 else None
        if node is None or node.op_type != operator:
            return None
        value = node.outputs[0]
    return node


def _following(node: ir.Node) -> Iterator[ir.Node]:
    """Follow the operators up to the softmax."""
    coming, seen = [node], {node}
    while coming:
        node = coming.pop()
        yield node
        if node.op_type == "Softmax":
            continue
        after = {use.node for value in node.outputs for use in value.uses()} - seen
        # The values meet their weights only behind the softmax: no further along that way.
        coming += [n for n in after if n.op_type != "MatMul" or _feeds_softmax(n)]
        seen |= after


def _feeds_softmax(product: ir.Node) -> bool:
    return any(use.node.op_type == "Softmax" for use in product.outputs[0].uses())


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
