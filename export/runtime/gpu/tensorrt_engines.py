"""TensorRT's own runtime: engines of the bundle that were built for exactly this GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.bundle import Bundle, EngineInfo, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, RuntimeOptions
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.features import Features
from export.runtime.gpu.device import ALIGNMENT, Device, DeviceArray, gpu_architecture, load_cuda
from export.runtime.gpu.device_features import DeviceFeatures, on_device

AGAIN = "build engines on this machine with `python -m export … --tensorrt`"


class TensorRt:
    """Opens the engines of one precision; each graph has an engine of its own."""

    name = "tensorrt"
    prefers_batches = True
    opens_at_once = False

    def __init__(
        self, bundle: Bundle, precision: PrecisionName, options: RuntimeOptions | None = None
    ) -> None:
        engines = bundle.manifest.engines
        if not engines:
            raise RuntimeUnavailableError(f"the bundle holds no engines; {AGAIN}")
        cuda, tensorrt = load_libraries()
        here = (gpu_architecture(cuda), tensorrt.__version__)
        fitting = [e for e in engines if (e.gpu_architecture, e.tensorrt_version) == here]
        if not fitting:
            raise RuntimeUnavailableError(f"{_difference(engines, here)}; {AGAIN}")
        self._bundle = bundle
        self._engines = {(e.graph, e.precision): e for e in fitting}
        self._memory_bytes = (options or RuntimeOptions()).gpu_memory_bytes
        self._device = Device(cuda, self._memory_bytes)
        self.max_clips: int | None = min(e.max_clips for e in fitting)
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load the graph's engine; `file`, its ONNX graph, is what it was built from."""
        info = self._engines.get((name, precision))
        if info is None:
            raise RuntimeUnavailableError(f"the bundle holds no {precision} {name} engine; {AGAIN}")
        plan = self._bundle.file(info.file).read_bytes()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise RuntimeUnavailableError(f"{info.file} does not load here; {AGAIN}")
        # TensorRT takes weights and working memory by itself: they come off what is allowed.
        self._device.set_aside(len(plan) + engine.device_memory_size_v2, info.file)
        context = engine.create_execution_context()
        if context is None:
            raise RuntimeUnavailableError(
                f"the GPU has too little free memory to run {info.file}; see with nvidia-smi who "
                "has it"
            )
        return _Engine(self._device, context, graph)

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, DeviceArray]:
        """Return features on the device: as the video encoder left them, or uploaded once."""
        return on_device(self._device, features, names)

    def close(self) -> None:
        """Free the pinned memory; engines end with their graphs."""
        self._device.close()


class _Engine:
    """One engine with one context; calls wait for each other, as they do for the GPU anyway."""

    def __init__(self, device: Device, context: Any, graph: GraphInfo) -> None:
        self._device, self._context, self._graph = device, context, graph

    def __call__(self, inputs: Mapping[str, Array | DeviceArray]) -> DeviceFeatures:
        with self._device.turn:
            try:
                return DeviceFeatures(self._device, self._run(inputs))
            except DeviceMemoryError as error:
                sizes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in inputs.items())
                raise DeviceMemoryError(
                    f"the GPU has no memory left for {sizes}; lower the batch size"
                ) from error

    def _run(self, inputs: Mapping[str, Array | DeviceArray]) -> dict[str, DeviceArray]:
        # Held until the stream is done: what is bound is read after this returns to Python.
        bound = {n: self._aligned(a) for n, a in self._device.upload(inputs).items()}
        for name, array in bound.items():
            if not self._context.set_input_shape(name, array.shape):
                raise ValueError(
                    f"{name} {array.shape} is outside of what the engine was built for"
                )
            self._context.set_tensor_address(name, array.pointer)
        outputs = {}
        for tensor in self._graph.outputs:
            shape = tuple(self._context.get_tensor_shape(tensor.name))
            outputs[tensor.name] = array = self._device.empty(shape)
            self._context.set_tensor_address(tensor.name, array.pointer)
        if not self._context.execute_async_v3(self._device.stream):
            raise RuntimeError(f"TensorRT refused to run {self._graph.file}")
        self._device.synchronize()
        return outputs

    def _aligned(self, array: DeviceArray) -> DeviceArray:
        """Copy an array whose address TensorRT does not take: rows of a batch begin anywhere."""
        return self._device.join([array]) if array.pointer % ALIGNMENT else array


def load_libraries() -> tuple[Any, Any]:
    """Import CUDA's bindings and TensorRT; RuntimeUnavailableError names what is missing."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"TensorRT is not installed ({error}); install xclip-serve[tensorrt]"
        ) from error
    return load_cuda(), tensorrt


def _difference(engines: tuple[EngineInfo, ...], here: tuple[str, str]) -> str:
    have = sorted({(e.gpu_architecture, e.tensorrt_version) for e in engines})
    built = ", ".join(f"{gpu} with TensorRT {version}" for gpu, version in have)
    return f"the bundle's engines are for {built}; this is {here[0]} with TensorRT {here[1]}"
