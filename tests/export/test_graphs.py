"""The exported graphs: free axes, standard operators, nothing spare, every kind of network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.bundle import Bundle
from export.errors import ExportError
from export.runtime import RuntimeOptions, open_runtime
from export.tracing import Traced, write_graph
from model.checkpoint import Checkpoint

GRAPHS = ("video_encoder", "text_encoder", "score_head")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_holds_standard_operators_and_no_trace_of_this_machine(
    tiny_bundle: Bundle, name: str
) -> None:
    file = tiny_bundle.file(f"{name}.onnx")
    onnx.checker.check_model(str(file), full_check=True)
    graph = onnx.load(file)
    assert {node.domain for node in graph.graph.node} <= {""}
    assert not graph.functions
    content = file.read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_normalisation_and_layernorm_are_single_operators(
    tiny_bundle: Bundle, tiny_checkpoint: Checkpoint
) -> None:
    layers = tiny_checkpoint.net.config.vision_layers
    operators = [n.op_type for n in onnx.load(tiny_bundle.file("video_encoder.onnx")).graph.node]
    assert operators.count("Cast") == 1
    # ln_pre, ln_post, prompts; per block ln_1, ln_2, message_ln; two in the integration block.
    assert operators.count("LayerNormalization") == 3 + 3 * layers + 2
    assert operators.count("ReduceMean") == 2


def test_pixels_are_cast_before_anything_else(tiny_bundle: Bundle) -> None:
    """TensorRT takes uint8 for a cast alone, not even to ask for its shape."""
    graph = onnx.load(tiny_bundle.file("video_encoder.onnx")).graph
    assert [node.op_type for node in graph.node if "frames" in node.input] == ["Cast"]


def test_weights_are_stored_once(tiny_bundle: Bundle, tiny_checkpoint: Checkpoint) -> None:
    stored = 0
    for name in GRAPHS:
        graph = onnx.load(tiny_bundle.file(f"{name}.onnx")).graph
        stored += sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    weights = sum(p.numel() for p in tiny_checkpoint.net.parameters())
    assert weights * 0.99 < stored < weights * 1.02


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_layers": 0},
        {"prompt_layers": 0, "mit_layers": 0, "cross_frame_messages": False},
        {"mit_layers": 0, "activation": "gelu"},
    ],
    ids=["no prompts", "frame average", "no integration and erf GELU"],
)
def test_a_network_with_parts_missing_keeps_the_contract(
    changes: dict[str, Any], variant: Callable[..., Bundle]
) -> None:
    bundle = variant(**changes)
    names = [tensor.name for tensor in bundle.manifest.graphs["score_head"].inputs]
    assert names == ["video", "context", "text"]
    assert [t.name for t in bundle.manifest.graphs["video_encoder"].outputs] == names[:2]
    runtime = open_runtime(bundle, "onnxruntime-cpu", options=RuntimeOptions(threads=1))
    runtime.warm_up()


class Squeezing(torch.nn.Module):
    """Freezes its free axis: what it computes depends on the example's size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Only ever for two rows."""
        return x.reshape(2, 3) * 2


class Fine(torch.nn.Module):
    """Nothing wrong with it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the input."""
        return x * 2


def traced(module: torch.nn.Module, **changes: Any) -> Traced:
    fields: dict[str, Any] = {
        "name": "score_head",
        "module": module,
        "examples": {"x": torch.zeros(2, 3)},
        "axes": {"x": {0: "B"}},
        "outputs": {"y": ("B", 3)},
    }
    return Traced(**(fields | changes))


def test_a_frozen_axis_is_an_error(tmp_path: Path) -> None:
    assert write_graph(traced(Fine()), tmp_path).inputs[0].shape == ("B", 3)
    with pytest.raises(ExportError, match="score_head"):
        write_graph(traced(Squeezing()), tmp_path)
