"""Half precisions written into the graph: where they begin and end, and what they cost."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.bundle import Bundle
from export.fusion import fuse_attention
from export.half_precision import write_half
from export.limits import LIMITS

FP32, FP16, BF16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    shutil.copy(tiny_bundle.file("video_encoder.onnx"), tmp_path)
    return tmp_path


def write_both(folder: Path, precision: str) -> tuple[str, str]:
    """Both graphs of a network whose attention can be fused."""
    plain, fused = write_half(folder, "video_encoder.onnx", precision)
    assert fused is not None
    return plain, fused


def run(file: Path, frames: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames}), strict=True))


def clips(bundle: Bundle, count: int) -> np.ndarray:
    spec = bundle.manifest.inputs
    shape = (count, spec.num_frames, spec.image_size, spec.image_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", FP16), ("bf16", BF16)])
def test_the_tower_is_half_and_all_before_and_after_is_fp32(
    folder: Path, precision: str, dtype: ir.DataType
) -> None:
    plain, fused = write_both(folder, precision)
    for name in (plain, fused):
        onnx.checker.check_model(str(folder / name), full_check=True)
        graph = ir.load(folder / name).graph
        assert [value.dtype for value in graph.outputs] == [FP32, FP32]
        kinds: dict[str, set[ir.DataType | None]] = {}
        for node in graph:
            for value in node.outputs:
                kinds.setdefault(node.op_type, set()).add(value.dtype)
        assert kinds["Conv"] == {dtype}
        assert kinds["Sub"] == kinds["Div"] == kinds["ReduceMean"] == {FP32}
        norms = [node for node in graph if node.op_type == "LayerNormalization"]
        assert {node.attributes.get_int("stash_type") for node in norms} == {1}
        kept = [n for n in norms if re.search("ln_post|context", str(n.inputs[1]))]
        assert len(kept) == 2
        assert {node.outputs[0].dtype for node in kept} == {FP32}
    assert (folder / fused).stat().st_size < 0.7 * (folder / "video_encoder.onnx").stat().st_size


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_fp16_is_near_fp32_for_any_batch(
    folder: Path, tiny_bundle: Bundle, which: int, count: int
) -> None:
    file = write_both(folder, "fp16")[which]
    frames = clips(tiny_bundle, count)
    expected, got = run(folder / "video_encoder.onnx", frames), run(folder / file, frames)
    for name, value in got.items():
        assert value.dtype == np.float32
        lengths = np.linalg.norm(value, axis=-1) * np.linalg.norm(expected[name], axis=-1)
        cosines = (value * expected[name]).sum(-1) / lengths
        assert cosines.min() >= LIMITS["fp16"].cosine
        assert np.abs(value - expected[name]).max() > 0, "nothing was rounded"


def test_fused_attention_is_the_same_function(folder: Path, tiny_bundle: Bundle) -> None:
    model = ir.load(folder / "video_encoder.onnx")
    before = [node.op_type for node in model.graph]
    # Two in each block (frames, messages) and one in the integration over frames.
    assert fuse_attention(model) == before.count("Softmax")
    ir.save(model, folder / "fused.onnx")
    after = [node.op_type for node in model.graph]
    assert after.count("Attention") == before.count("Softmax")
    assert "Softmax" not in after
    for count in (1, 3):
        frames = clips(tiny_bundle, count)
        expected, got = (
            run(folder / "video_encoder.onnx", frames),
            run(folder / "fused.onnx", frames),
        )
        for name, value in got.items():
            np.testing.assert_allclose(value, expected[name], atol=2e-5)


def test_masked_attention_is_left_alone(tiny_bundle: Bundle) -> None:
    model = ir.load(tiny_bundle.file("text_encoder.onnx"))
    assert fuse_attention(model) == 0


def test_a_weight_beyond_fp16_is_refused(folder: Path) -> None:
    model = ir.load(folder / "video_encoder.onnx")
    weight = model.graph.initializers["net.visual.conv1.weight"]
    assert weight.const_value is not None
    numbers = weight.const_value.numpy().copy()
    numbers.flat[0] = 1e6
    weight.const_value = ir.Tensor(numbers, name=weight.name)
    ir.save(model, folder / "video_encoder.onnx")
    with pytest.raises(ValueError, match=r"conv1\.weight holds numbers that fp16 does not"):
        write_half(folder, "video_encoder.onnx", "fp16")
    write_half(folder, "video_encoder.onnx", "bf16")


def test_large_weights_lie_beside_both_graphs_once(folder: Path, tiny_bundle: Bundle) -> None:
    model = ir.load(folder / "video_encoder.onnx")
    ir.save(model, folder / "video_encoder.onnx", external_data="video_encoder.onnx.data")
    plain, fused = write_both(folder, "fp16")
    weights = folder / "video_encoder.fp16.onnx.data"
    assert weights.is_file()
    assert (folder / fused).stat().st_size < weights.stat().st_size / 2
    frames = clips(tiny_bundle, 1)
    expected = run(folder / plain, frames)
    for name, value in run(folder / fused, frames).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-2)
