"""A bundle as a model repository of Triton: a folder a graph, with its `config.pbtxt`.

Triton runs the graphs and nothing else: who asks it makes frames and tokens as `model.inputs` does,
and keeps label vectors. The text is written here, not by protobuf, whose message for it comes
with Triton's client alone: names, types and shapes of the manifest, one to a line. A test reads it
with that client and compares it with the graphs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from export.bundle import Bundle, GraphInfo, PrecisionBuild, TensorInfo
from export.bundle.manifest import GraphName
from export.errors import ExportError

VERSION = "1"
MAX_CLIPS = 8
MAX_LABELS = 256
ON_ANY_DEVICE, ON_A_GPU = "onnxruntime-cpu", "onnxruntime-cuda"
TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}


def write_repository(bundle: Bundle, output: Path, precision: str | None = None) -> Path:
    """Write a model repository: the three graphs, each with its config, for Triton's ONNX Runtime.

    Args:
        bundle: Its files are copied, hashes checked when it was opened.
        output: Folder to make; complete or not there.
        precision: One of the bundle's that ONNX Runtime runs; None for the bundle's default.

    Returns:
        The folder.

    Raises:
        ExportError: The folder is there already, or ONNX Runtime runs no such precision.
    """
    if output.exists():
        raise ExportError(f"{output} is there already; choose another name")
    build = _build(bundle, precision)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        folder = Path(scratch) / "new"
        for name in bundle.manifest.graphs:
            _write_model(bundle, build, name, folder / name)
        folder.rename(output)
    return output


def model_config(bundle: Bundle, build: PrecisionBuild, name: GraphName) -> str:
    """Return the `config.pbtxt` of a graph in a precision."""
    graph = bundle.manifest.graphs[name]
    batch = max_batch_size(name, graph, build)
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {json.dumps(bundle.graph_file(name, build).name)}",
        f"max_batch_size: {batch}",
        *(_tensor("input", tensor, batched=batch > 0) for tensor in graph.inputs),
        *(_tensor("output", tensor, batched=batch > 0) for tensor in graph.outputs),
    ]
    if batch > 1:
        lines.append("dynamic_batching { }")
    if not build.runs_on(ON_ANY_DEVICE):
        lines.append("instance_group { kind: KIND_GPU }")
    told = {"bundle": f"sha256:{bundle.hash}", "precision": build.precision}
    lines += [
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in told.items()
    ]
    return "\n".join(lines) + "\n"


def max_batch_size(name: GraphName, graph: GraphInfo, build: PrecisionBuild) -> int:
    """Return how many requests may share a run; 0 where a tensor has no axis for them."""
    axes = {tensor.shape[0] for tensor in (*graph.inputs, *graph.outputs) if tensor.shape}
    if len(axes) != 1 or not isinstance(axes.pop(), str):
        return 0
    if name == "text_encoder":
        return MAX_LABELS
    # Clips in one run of an int8 encoder may share a range of values, and so change each other.
    bound = build.clips_per_run if name == "video_encoder" else None
    return min(MAX_CLIPS, bound or MAX_CLIPS)


def _tensor(kind: str, tensor: TensorInfo, *, batched: bool) -> str:
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = ", ".join(str(size if isinstance(size, int) else -1) for size in shape)
    return (
        f"{kind} {{ name: {json.dumps(tensor.name)} data_type: {TYPES[tensor.dtype]} "
        f"dims: [ {dims} ] }}"
    )


def _build(bundle: Bundle, precision: str | None) -> PrecisionBuild:
    target = precision or bundle.manifest.default_precision
    runs = [
        build
        for build in bundle.manifest.precisions
        if build.runs_on(ON_ANY_DEVICE) or build.runs_on(ON_A_GPU)
    ]
    for build in runs:
        if build.precision == target:
            return build
    has = ", ".join(dict.fromkeys(build.precision for build in runs))
    raise ExportError(
        f"{bundle.path} has no {target} for ONNX Runtime, which Triton runs; "
        + (f"name one with --precision: {has}" if has else "export it with --precision fp32")
    )


def _write_model(bundle: Bundle, build: PrecisionBuild, name: GraphName, folder: Path) -> None:
    version = folder / VERSION
    version.mkdir(parents=True)
    graph = build.graphs.get(name, bundle.manifest.graphs[name].file)
    for file in bundle.manifest.files:
        if file == graph or file.startswith(
            f"{graph}."
        ):  # and its weights, where they lie beside it
            shutil.copyfile(bundle.file(file), version / Path(file).name)
    (folder / "config.pbtxt").write_text(model_config(bundle, build, name), encoding="utf-8")
