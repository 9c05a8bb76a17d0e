"""TensorRT's own runtime: engines of the bundle that were built for exactly this GPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import Bundle, EngineInfo, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, Vectors
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError

AGAIN = "build engines on this machine with `python -m export … --tensorrt`"


class TensorRt:
    """Opens the engines of one precision; each graph has an engine of its own."""

    name = "tensorrt"
    opens_at_once = False

    def __init__(self, bundle: Bundle, precision: PrecisionName) -> None:
        engines = bundle.manifest.engines
        if not engines:
            raise RuntimeUnavailableError(f"the bundle holds no engines; {AGAIN}")
        self._cuda, self._tensorrt = load_libraries()
        here = (gpu_architecture(self._cuda), self._tensorrt.__version__)
        fitting = [e for e in engines if (e.gpu_architecture, e.tensorrt_version) == here]
        if not fitting:
            raise RuntimeUnavailableError(f"{_difference(engines, here)}; {AGAIN}")
        self._bundle = bundle
        self._precision = precision
        self._engines = {(e.graph, e.precision): e for e in fitting}
        self.max_clips: int | None = min(e.max_clips for e in fitting)
        self._runtime = self._tensorrt.Runtime(self._tensorrt.Logger(self._tensorrt.Logger.ERROR))

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load the graph's engine; `file`, its ONNX graph, is what it was built from."""
        engine = self._engines.get((name, precision))
        if engine is None:
            raise RuntimeUnavailableError(f"the bundle holds no {precision} {name} engine; {AGAIN}")
        plan = self._bundle.file(engine.file).read_bytes()
        loaded = self._runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            raise RuntimeUnavailableError(f"{engine.file} does not load here; {AGAIN}")
        return _Engine(self._cuda, self._tensorrt, loaded, graph)

    def close(self) -> None:
        """Engines end with their graphs."""


class _Engine:
    """One engine with one stream; calls wait for each other."""

    def __init__(self, cuda: Any, tensorrt: Any, engine: Any, graph: GraphInfo) -> None:
        self._cuda, self._tensorrt = cuda, tensorrt
        self._engine, self._graph = engine, graph
        self._context = engine.create_execution_context()
        self._stream = _checked(cuda.cudaStreamCreate())
        self._turn = threading.Lock()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Vectors]:
        with self._turn:
            held: list[int] = []
            try:
                return self._run(inputs, held)
            finally:
                for pointer in held:
                    self._cuda.cudaFreeAsync(pointer, self._stream)

    def _run(self, inputs: Mapping[str, Array], held: list[int]) -> dict[str, Vectors]:
        for name, array in inputs.items():
            data = np.ascontiguousarray(array)
            self._context.set_input_shape(name, data.shape)
            pointer = self._bind(name, data.nbytes, held)
            kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._copy(pointer, data.ctypes.data, data.nbytes, kind)
        outputs = {}
        for tensor in self._graph.outputs:
            shape = tuple(self._context.get_tensor_shape(tensor.name))
            outputs[tensor.name] = result = np.empty(shape, np.float32)
            self._bind(tensor.name, result.nbytes, held)
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError(f"TensorRT refused to run {self._graph.file}")
        for pointer, result in zip(held[len(inputs) :], outputs.values(), strict=True):
            kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._copy(result.ctypes.data, pointer, result.nbytes, kind)
        _checked(self._cuda.cudaStreamSynchronize(self._stream))
        return outputs

    def _bind(self, name: str, nbytes: int, held: list[int]) -> int:
        error, pointer = self._cuda.cudaMallocAsync(nbytes, self._stream)
        if error.value:
            raise DeviceMemoryError(
                f"the GPU has no memory left for {name} ({nbytes / 1e6:.0f} MB); "
                "lower the batch size"
            )
        held.append(pointer)
        self._context.set_tensor_address(name, int(pointer))
        return int(pointer)

    def _copy(self, to: int, source: int, nbytes: int, kind: Any) -> None:
        _checked(self._cuda.cudaMemcpyAsync(to, source, nbytes, kind, self._stream))


def gpu_architecture(cuda: Any) -> str:
    """The first GPU's compute capability, as `sm_90`."""
    properties = _checked(cuda.cudaGetDeviceProperties(0))
    return f"sm_{properties.major}{properties.minor}"


def load_libraries() -> tuple[Any, Any]:
    """CUDA's runtime and TensorRT; `RuntimeUnavailableError` says what is missing."""
    try:
        import tensorrt
        from cuda.bindings import runtime as cuda
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"TensorRT is not installed ({error}); install xclip-serve[tensorrt]"
        ) from error
    status, count = cuda.cudaGetDeviceCount()
    if status.value or not count:
        raise RuntimeUnavailableError(
            f"no NVIDIA GPU answers ({status.name}); check with nvidia-smi, and install its driver"
        )
    return cuda, tensorrt


def _difference(engines: tuple[EngineInfo, ...], here: tuple[str, str]) -> str:
    have = sorted({(e.gpu_architecture, e.tensorrt_version) for e in engines})
    built = ", ".join(f"{gpu} with TensorRT {version}" for gpu, version in have)
    return f"the bundle's engines are for {built}; this is {here[0]} with TensorRT {here[1]}"


def _checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, whose first item is its status."""
    error, *values = result
    if error.value:
        raise RuntimeError(f"CUDA says {error.name}")
    return values[0] if values else None
