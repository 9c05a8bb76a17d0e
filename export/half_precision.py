"""The video encoder in fp16 or bf16, its types written into the graph.

What runs in half precision is the tower: patch embedding and blocks. Pixels are normalised before
it in fp32; the last LayerNorms, the projections, the integration over frames and the mean over
them come after it in fp32, and the outputs are fp32 as ever. Within the tower LayerNorm still
computes in fp32 (its `stash_type`), and so does the softmax of every kernel that runs it.

Written types, not a flag of the runtime: what is compared with torch is what runs, on every
runtime, and a strongly typed TensorRT engine keeps them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.fusion import fuse_attention
from export.simplify import drop_unused

# The first opset whose Conv takes bf16; between it and the traced one no operator changes meaning.
BF16_OPSET = 22
TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
FP32 = ir.DataType.FLOAT
FUSED = ".fused"
# The largest finite fp16 number. A weight beyond it would become infinite.
LARGEST_FP16 = 65504.0
# Parameters of the network whose operators, and all that follows from them, stay in fp32.
KEPT = (
    *("net.visual.ln_post.", "net.visual.proj", "net.mit.", "net.patch_context."),
    # The same of towers that are wrapped: ours, open_clip's own, and those it takes from timm.
    *(f"net.towers.visual.{end}" for end in ("ln_post.", "proj", "attn_pool.", "head.")),
    *(f"net.towers.visual.trunk.{end}" for end in ("norm.", "fc_norm.", "attn_pool.", "head.")),
)


def write_half(folder: Path, fp32_file: str, precision: str) -> tuple[str, str | None]:
    """Write the graph in the precision twice: plain, and with its attention as one operator each.

    Plain is what TensorRT fuses by itself, the other is for ONNX Runtime's CUDA provider. Large
    weights lie beside them once. Returns both names; none of the second where the network's
    attention is not of the form that can be fused. ValueError where a weight is out of range.
    """
    stem = fp32_file.removesuffix(".onnx")
    plain, fused = f"{stem}.{precision}.onnx", f"{stem}.{precision}{FUSED}.onnx"
    model = ir.load(folder / fp32_file)
    outside = any(isinstance(v.const_value, ir.ExternalTensor) for v in _initializers(model))
    reduce_types(model, TYPES[precision])
    ir.save(model, folder / plain, external_data=weights_file(plain) if outside else None)
    model = ir.load(folder / plain)
    if not fuse_attention(model):
        return plain, None
    ir.save(model, folder / fused)
    return plain, fused


def weights_file(graph_file: str) -> str:
    """Name the file of a graph's large weights, which both graphs of a precision share."""
    return f"{graph_file.replace(FUSED, '')}.data"


def reduce_types(model: ir.Model, dtype: ir.DataType) -> None:
    """Rewrite an fp32 graph in place; the tower then computes in `dtype`."""
    tower = _tower(model)
    turned: dict[ir.Value, ir.Value] = {}
    for node in [node for node in model.graph if node in tower]:
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != FP32 or value.producer() in tower:
                continue
            if value not in turned:
                turned[value] = _turned(model, node, value, dtype)
            node.replace_input_with(index, turned[value])
    for node in tower:
        for value in node.outputs:
            if value.dtype == FP32:
                value.dtype = dtype
    _turn_back(model, tower)
    if dtype == ir.DataType.BFLOAT16:
        model.opset_imports[""] = BF16_OPSET
    drop_unused(model)


def _tower(model: ir.Model) -> set[ir.Node]:
    """Return the nodes between the pixels and the kept tail."""
    patches = [node for node in model.graph if node.op_type == "Conv"]
    kept = [
        node
        for node in model.graph
        if any(value is not None and (value.name or "").startswith(KEPT) for value in node.inputs)
    ]
    # A tower whose end has other names goes on to the mean over frames, which makes the output.
    kept += [end for value in model.graph.outputs if (end := value.producer()) is not None]
    if not patches:
        raise ValueError("the graph has no patch embedding to go by")
    return _followers(patches) - _followers(kept)


def _followers(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """Return the nodes and all that use their floating results, directly or not."""
    reached: set[ir.Node] = set()
    coming = deque(nodes)
    while coming:
        node = coming.popleft()
        if node in reached:
            continue
        reached.add(node)
        for value in node.outputs:
            if value.dtype == FP32:
                coming.extend(use.node for use in value.uses())
    return reached


def _turned(model: ir.Model, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Convert a value: store a weight in the type, cast anything else before its first use."""
    if value.const_value is not None:
        stored = _stored(value, dtype)
        model.graph.register_initializer(stored)
        return stored
    cast = _cast(value, dtype, f"{value.name}.half")
    model.graph.insert_before(node, cast)
    return cast.outputs[0]


def _stored(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    tensor = value.const_value
    assert tensor is not None
    numbers = tensor.numpy()
    if dtype == ir.DataType.FLOAT16 and abs(numbers).max(initial=0) > LARGEST_FP16:
        raise ValueError(f"{value.name} holds numbers that fp16 does not; choose bf16")
    name = f"{value.name}.half"
    half = ir.Tensor(numbers.astype(dtype.numpy()), dtype=dtype, name=name)
    return ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype), const_value=half)


def _turn_back(model: ir.Model, tower: set[ir.Node]) -> None:
    """Cast what leaves the tower to fp32, once for all that use it."""
    for node in tower:
        for value in node.outputs:
            outside = [use for use in value.uses() if use.node not in tower]
            if value.dtype not in TYPES.values() or not outside:
                continue
            cast = _cast(value, FP32, f"{value.name}.fp32")
            model.graph.insert_after(node, cast)
            for use in outside:
                if use.node is not cast:
                    use.node.replace_input_with(use.idx, cast.outputs[0])


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    return ir.Node(
        "",
        "Cast",
        [value],
        [ir.AttrInt64("to", dtype.value)],
        outputs=[ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))],
        name=f"cast_{name}",
    )


def _initializers(model: ir.Model) -> Iterable[Any]:
    return model.graph.initializers.values()
