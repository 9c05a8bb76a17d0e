"""TensorRT's runtime and builder, played with stand-ins for CUDA and TensorRT in host memory.

The real libraries were not there when this was written; what is held here is our side of the
calls: which engine is chosen, what is said where none fits, shapes, copies, limits.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console

from export.bundle import Bundle, EngineInfo
from export.engines import build_engines
from export.errors import ExportError
from export.progress import Steps
from export.runtime import DeviceMemoryError, RuntimeUnavailableError, open_runtime

OK = SimpleNamespace(value=0, name="cudaSuccess")
FULL = SimpleNamespace(value=2, name="cudaErrorMemoryAllocation")
HERE = ("sm_90", "10.16.1")


class Cuda:
    """Device memory that is host memory; `capacity` bytes of it."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.capacity = 1 << 30
        self.devices = 1

    def cudaGetDeviceCount(self) -> tuple[Any, int]:
        return OK, self.devices

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, Any]:
        return OK, SimpleNamespace(major=9, minor=0)

    def cudaStreamCreate(self) -> tuple[Any, int]:
        return OK, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any]:
        return (OK,)

    def cudaMallocAsync(self, nbytes: int, stream: int) -> tuple[Any, int]:
        if nbytes > self.capacity:
            return FULL, 0
        buffer = ctypes.create_string_buffer(nbytes)
        self.held[ctypes.addressof(buffer)] = buffer
        return OK, ctypes.addressof(buffer)

    def cudaFreeAsync(self, pointer: int, stream: int) -> tuple[Any]:
        del self.held[pointer]
        return (OK,)

    def cudaMemcpyAsync(
        self, to: int, source: int, nbytes: int, kind: int, stream: int
    ) -> tuple[Any]:
        ctypes.memmove(to, source, nbytes)
        return (OK,)


class Context:
    """Runs a text encoder: each label's vector is the sum of its tokens, in every place."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.pointers: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.pointers[name] = pointer
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["token_ids"][0], self.dim)

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shapes["token_ids"]
        raw = (ctypes.c_int64 * math.prod(shape)).from_address(self.pointers["token_ids"])
        sums = np.array(raw).reshape(shape).sum(1, keepdims=True)
        vectors = np.repeat(sums, self.dim, 1).astype(np.float32)
        ctypes.memmove(self.pointers["text"], vectors.ctypes.data, vectors.nbytes)
        return True


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle) -> Cuda:
    """Both libraries, installed."""
    device = Cuda()
    dim = tiny_bundle.manifest.text_dim
    engine = SimpleNamespace(create_execution_context=lambda: Context(dim))
    tensorrt = MagicMock()
    tensorrt.__version__ = HERE[1]
    tensorrt.Runtime().deserialize_cuda_engine = lambda plan: engine if plan == b"plan" else None
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    bindings.runtime = device  # type: ignore[attr-defined]
    modules = {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.runtime": device}
    for name, module in {**modules, "tensorrt": tensorrt}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return device


@pytest.fixture
def with_engines(tiny_bundle: Bundle, tmp_path: Path) -> Any:
    """The tiny bundle with one engine for each graph, made for a GPU and a version."""

    def make(gpu: str = HERE[0], version: str = HERE[1], plan: bytes = b"plan") -> Bundle:
        engines = tuple(
            EngineInfo(
                graph=graph,
                file=f"{graph}.engine",
                gpu_architecture=gpu,
                tensorrt_version=version,
                precision="fp32",
                max_clips=4,
                max_labels=8,
            )
            for graph in tiny_bundle.manifest.graphs
        )
        for engine in engines:
            (tmp_path / engine.file).write_bytes(plan)
        manifest = tiny_bundle.manifest.model_copy(update={"engines": engines})
        return replace(tiny_bundle, path=tmp_path, manifest=manifest)

    return make


def test_a_call_copies_runs_and_gives_memory_back(cuda: Cuda, with_engines: Any) -> None:
    runtime = open_runtime(with_engines(), "tensorrt")
    text = runtime.encode_text(np.array([[1, 2, 3], [4, 5, 6]]))
    assert runtime.name == "tensorrt"
    np.testing.assert_array_equal(text[:, 0], [6, 15])
    np.testing.assert_array_equal(text[:, -1], [6, 15])
    assert not cuda.held


def test_memory_that_runs_out_is_told_apart_and_given_back(cuda: Cuda, with_engines: Any) -> None:
    runtime = open_runtime(with_engines(), "tensorrt")
    cuda.capacity = 100
    with pytest.raises(DeviceMemoryError, match=r"no memory left for text .*lower the batch"):
        runtime.encode_text(np.ones((2, 3), np.int64))
    assert not cuda.held


def test_engines_of_another_card_name_the_difference(cuda: Cuda, with_engines: Any) -> None:
    wanted = "for sm_80 with TensorRT 10.9; this is sm_90 with TensorRT 10.16.1; build engines"
    with pytest.raises(RuntimeUnavailableError, match=wanted):
        open_runtime(with_engines("sm_80", "10.9"), "tensorrt")


def test_auto_goes_on_where_the_engines_do_not_fit(cuda: Cuda, tiny_bundle: Bundle) -> None:
    engine = EngineInfo(
        graph="video_encoder",
        file="x.engine",
        gpu_architecture="sm_80",
        tensorrt_version="10.9",
        precision="fp32",
        max_clips=1,
        max_labels=1,
    )
    manifest = tiny_bundle.manifest.model_copy(update={"engines": (engine,)})
    runtime = open_runtime(replace(tiny_bundle, manifest=manifest), threads=1)
    assert runtime.name == "onnxruntime-cpu"
    assert "this is sm_90" in runtime.selection[0]


def test_a_plan_that_does_not_load_says_how_to_rebuild(cuda: Cuda, with_engines: Any) -> None:
    with pytest.raises(RuntimeUnavailableError, match="does not load here; build engines"):
        open_runtime(with_engines(plan=b"torn"), "tensorrt")


def test_no_gpu_and_no_engines_each_say_so(
    cuda: Cuda, with_engines: Any, tiny_bundle: Bundle
) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"holds no engines; .*--tensorrt"):
        open_runtime(tiny_bundle, "tensorrt")
    cuda.devices = 0
    with pytest.raises(RuntimeUnavailableError, match="no NVIDIA GPU answers"):
        open_runtime(with_engines(), "tensorrt")


def test_building_asks_for_profiles_and_exact_fp32(
    cuda: Cuda, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    tensorrt = sys.modules["tensorrt"]
    builder = tensorrt.Builder()  # type: ignore[attr-defined]
    builder.build_serialized_network.return_value = b"plan"
    config = builder.create_builder_config()
    config.get_timing_cache().serialize.return_value = b"timings"
    graphs = tiny_bundle.manifest.graphs
    steps = Steps(Console(quiet=True))
    engines = build_engines(tmp_path, graphs, ("fp32", "bf16", "int8"), 48, steps)
    built = [(engine.graph, engine.precision) for engine in engines]
    encoders = [("video_encoder", "fp32"), ("video_encoder", "bf16")]
    assert built == [("text_encoder", "fp32"), ("score_head", "fp32"), *encoders]
    assert {(e.gpu_architecture, e.tensorrt_version) for e in engines} == {HERE}
    shapes = {c.args[0]: c.args[1:] for c in builder.create_optimization_profile().method_calls}
    assert shapes["frames"] == ((1, 4, 32, 32, 3), (8, 4, 32, 32, 3), (64, 4, 32, 32, 3))
    assert shapes["token_ids"][0] == (1, 1)
    assert shapes["token_ids"][2][1] == tiny_bundle.manifest.inputs.context_length
    flags = tensorrt.BuilderFlag  # type: ignore[attr-defined]
    assert [call.args for call in config.clear_flag.call_args_list] == [(flags.TF32,)] * 4
    assert [call.args for call in config.set_flag.call_args_list] == [(flags.BF16,)]
    assert sorted(p.name for p in (tmp_path / "engines").iterdir()) == sorted(
        Path(engine.file).name for engine in engines
    )


def test_a_graph_that_tensorrt_cannot_build_fails_by_name(
    cuda: Cuda, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    builder = sys.modules["tensorrt"].Builder()  # type: ignore[attr-defined]
    builder.build_serialized_network.return_value = None
    with pytest.raises(ExportError, match=r"fp32 engine of text_encoder\.onnx"):
        build_engines(
            tmp_path, tiny_bundle.manifest.graphs, ("fp32",), 48, Steps(Console(quiet=True))
        )
