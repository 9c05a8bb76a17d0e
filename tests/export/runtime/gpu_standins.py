"""Stand-ins for CUDA, onnxruntime-gpu and TensorRT: host memory plays the card's.

They take the calls of the published bindings, by the same names and with the same arguments
(cuda.bindings.runtime, TensorRT pyCore.cpp, ONNX Runtime IOBinding), and really compute, with
ONNX Runtime on the processor. The stream is real, too: copies and frees happen when it is waited
for and not before, so that a buffer that is used too early, or once more too early, is seen.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

ARCHITECTURE, TENSORRT_VERSION = "sm_90", "10.16.1"
CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
OK = SimpleNamespace(value=0, name="cudaSuccess")
FULL = SimpleNamespace(value=2, name="cudaErrorMemoryAllocation")
STREAM = 7


class Cuda:
    """`cuda.bindings.runtime` with a card of `capacity` bytes."""

    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaMemPoolAttr = SimpleNamespace(cudaMemPoolAttrReleaseThreshold=4)  # noqa: N815
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0  # noqa: N815

    def __init__(self) -> None:
        self.capacity = 1 << 30
        self.found: tuple[Any, Any] = (OK, 1)  # status and number of devices
        self.driver, self.runtime = 13050, 13050
        self.device: dict[int, Any] = {}  # by address: what keeps the memory
        self.pinned: dict[int, Any] = {}
        self.copies: list[tuple[int, int]] = []  # direction and bytes
        self._stream: list[Callable[[], None]] = []

    def cudaGetDeviceCount(self) -> tuple[Any, Any]:
        return self.found

    def cudaDriverGetVersion(self) -> tuple[Any, int]:
        return OK, self.driver

    def cudaRuntimeGetVersion(self) -> tuple[Any, int]:
        return OK, self.runtime

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, Any]:
        return OK, SimpleNamespace(major=9, minor=0)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, int]:
        return OK, STREAM

    def cudaDeviceGetDefaultMemPool(self, device: int) -> tuple[Any, int]:
        return OK, 11

    def cudaMemPoolSetAttribute(self, memPool: int, attr: Any, value: Any) -> tuple[Any]:
        return (OK,)

    def cudaMallocAsync(self, size: int, hStream: int) -> tuple[Any, Any]:
        assert hStream == STREAM
        used = sum(len(memory) for memory in self.device.values())
        return (FULL, None) if used + size > self.capacity else (OK, self.allocate(size))

    def cudaFreeAsync(self, devPtr: int, hStream: int) -> tuple[Any]:
        self.enqueue(lambda: self._free(devPtr))
        return (OK,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, int]:
        memory = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(memory)] = memory
        return OK, ctypes.addressof(memory)

    def cudaFreeHost(self, ptr: int) -> tuple[Any]:
        del self.pinned[ptr]
        return (OK,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: int) -> tuple[Any]:
        for address, where in ((dst, kind in (1, 3)), (src, kind in (2, 3))):
            assert self._inside(self.device if where else self.pinned, address, count)
        self.copies.append((kind, count))

        def copy() -> None:
            ctypes.memmove(dst, src, count)

        self.enqueue(copy)
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any]:
        waiting, self._stream = self._stream, []
        for work in waiting:
            work()
        return (OK,)

    # --- for the libraries that run on the card ------------------------------------------------

    def enqueue(self, work: Callable[[], None]) -> None:
        self._stream.append(work)

    def allocate(self, size: int) -> int:
        memory = ctypes.create_string_buffer(size + 256)
        address = -(-ctypes.addressof(memory) // 256) * 256
        self.device[address] = memory
        return address

    def array(self, pointer: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Device memory as an array; it must be there, and large enough."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if not nbytes:
            return np.empty(shape, dtype)
        assert self._inside(self.device, pointer, nbytes), "not this card's memory"
        raw = memoryview((ctypes.c_uint8 * nbytes).from_address(pointer))
        return np.frombuffer(raw, dtype).reshape(shape)

    def _free(self, pointer: int) -> None:
        ctypes.memset(pointer, 0x7F, 16)  # who reads it after this gets rubbish
        del self.device[pointer]

    def _inside(self, memory: dict[int, Any], address: int, count: int) -> bool:
        return any(a <= address and address + count <= a + len(m) for a, m in memory.items())


class OnnxRuntimeGpu:
    """`onnxruntime` as the GPU package has it; `ends` is what happens at each step."""

    __version__ = "1.31.1"
    __file__ = "/nowhere/onnxruntime/__init__.py"
    OrtAllocatorType, OrtMemType = onnxruntime.OrtAllocatorType, onnxruntime.OrtMemType
    SessionOptions, RunOptions = onnxruntime.SessionOptions, onnxruntime.RunOptions

    def __init__(
        self, cuda: Cuda, providers: tuple[str, ...] = (TRT, CUDA, CPU), **ends: Any
    ) -> None:
        self.cuda, self.providers, self.ends = cuda, providers, ends
        self.asked: list[Any] = []
        self.pools: list[tuple[Any, ...]] = []

    def get_available_providers(self) -> list[str]:
        return list(self.providers)

    def preload_dlls(self) -> None:
        print("Failed to load libcublasLt.so.13")

    def OrtMemoryInfo(self, name: str, kind: Any, device: int, memory: Any) -> tuple[Any, ...]:
        return (name, kind, device, memory)

    def OrtArenaCfg(self, settings: dict[str, int]) -> dict[str, int]:
        return settings

    def create_and_register_allocator(self, where: Any, pool: Any) -> None:
        pass

    def create_and_register_allocator_v2(
        self, provider: str, where: Any, options: dict[str, str], pool: dict[str, int]
    ) -> None:
        if self.pools:
            raise RuntimeError("An allocator for this device has already been registered")
        self.pools.append((provider, where, options, pool))

    def InferenceSession(
        self, file: str, options: Any, providers: Any, enable_fallback: int = 1
    ) -> Any:
        if providers == [CPU]:
            return onnxruntime.InferenceSession(file, options, providers=[CPU])
        assert not enable_fallback
        self.asked.append((Path(file).name, providers))
        if "start" in self.ends:
            raise self.ends["start"]
        return Session(self, file, dict(providers))


class Session:
    """A session on the card."""

    def __init__(
        self, library: OnnxRuntimeGpu, file: str, providers: dict[str, dict[str, str]]
    ) -> None:
        self.library = library
        self.providers = library.ends.get("got", list(providers))
        self.captures = providers[CUDA].get("enable_cuda_graph") == "1"
        self.captured: Binding | None = None
        self.real = onnxruntime.InferenceSession(file, _one_thread(), providers=[CPU])

    def get_providers(self) -> list[str]:
        return self.providers

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, run_options: Any = None) -> None:
        if self.captures and run_options.get_run_config_entry("gpu_graph_id") != "-1":
            # What is replayed is what was captured, whatever is bound now.
            assert binding.places.keys() == set(binding.outputs), "captured without an address"
            self.captured = binding = self.captured or binding
        if "run" in self.library.ends:
            raise self.library.ends["run"]
        cuda = self.library.cuda
        cuda.cudaStreamSynchronize(STREAM)  # it runs on the stream that it was given
        given = {name: cuda.array(*place) for name, place in binding.inputs.items()}
        results = self.real.run(binding.outputs, given)
        for name, result in zip(binding.outputs, results, strict=True):
            if name in binding.places:
                cuda.array(*binding.places[name])[...] = result
        binding.results = [DeviceValue(cuda, np.ascontiguousarray(r)) for r in results]


class Binding:
    """`IOBinding`, of which only addresses on the card are used."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: list[str] = []
        self.places: dict[str, Any] = {}
        self.results: list[DeviceValue] = []

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, ptr: int
    ) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self.inputs[name] = (ptr, tuple(shape), element_type)

    def bind_output(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self.outputs.append(name)
        if buffer_ptr is not None:
            self.places[name] = (buffer_ptr, tuple(shape), element_type)

    def get_outputs(self) -> list[DeviceValue]:
        return self.results


class DeviceValue:
    """An `OrtValue` in the card's memory."""

    def __init__(self, cuda: Cuda, array: np.ndarray) -> None:
        self._cuda, self._shape = cuda, list(array.shape)
        self._pointer = cuda.allocate(max(1, array.nbytes))
        cuda.array(self._pointer, array.shape, array.dtype)[...] = array

    def data_ptr(self) -> int:
        return self._pointer

    def shape(self) -> list[int]:
        return self._shape

    def __del__(self) -> None:
        self._cuda.cudaFreeAsync(self._pointer, STREAM)


def _one_thread() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def tensorrt_library(cuda: Cuda) -> ModuleType:
    """The module `tensorrt`; a plan is its graph behind the sizes it was built for."""
    library: Any = ModuleType("tensorrt")
    library.__version__ = TENSORRT_VERSION
    library.built = []  # what each engine was asked for
    library.fails = ""  # the graph of which no engine can be built
    library.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    library.BuilderFlag = SimpleNamespace(TF32="tf32", FP16="fp16", BF16="bf16")
    library.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    library.IProgressMonitor = type("IProgressMonitor", (), {})

    class Logger:
        ERROR = 1

        def __init__(self, min_severity: int) -> None:
            pass

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None:
            self.network = network

        def parse_from_file(self, model: str) -> bool:
            self.network.file = model
            return Path(model).is_file()

        def get_error(self, index: int) -> str:
            return "no such file"

    class Builder:
        def __init__(self, logger: Any) -> None:
            pass

        def create_network(self, flags: int = 0) -> Any:
            return SimpleNamespace(flags=flags, file="")

        def create_builder_config(self) -> BuilderConfig:
            return BuilderConfig()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Any, config: BuilderConfig) -> Any:
            config.network = network
            library.built.append(config)
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 2)
            going = monitor.step_complete("Building", 0) and monitor.step_complete("Building", 1)
            monitor.phase_finish("Building")
            if not going or Path(network.file).name == library.fails:
                return None
            config.timings += Path(network.file).name.encode() + b";"
            shapes = json.dumps(config.profiles[0].shapes).encode()
            return shapes + b"\n" + Path(network.file).read_bytes()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            shapes, _, graph = serialized_engine.partition(b"\n")
            return EngineOnCard(cuda, graph, json.loads(shapes)) if graph else None

    library.Logger, library.Builder, library.Runtime = Logger, Builder, Runtime
    library.OnnxParser = OnnxParser
    return library


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = (smallest, usual, largest)


class BuilderConfig:
    def __init__(self) -> None:
        self.network: Any = None
        self.flags_cleared: list[str] = []
        self.flags_set: list[str] = []
        self.pools: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.progress_monitor: Any = None
        self.timings = b""
        self.known = b""

    def set_memory_pool_limit(self, pool: str, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def clear_flag(self, flag: str) -> None:
        self.flags_cleared.append(flag)

    def set_flag(self, flag: str) -> None:
        self.flags_set.append(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: self.timings, content=serialized_timing_cache)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.content.startswith(b"other card") and not ignore_mismatch:
            return False
        self.known = self.timings = cache.content
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class EngineOnCard:
    """An engine and, as there is one context of each, its context."""

    device_memory_size_v2 = 1000

    def __init__(self, cuda: Cuda, graph: bytes, shapes: dict[str, Any]) -> None:
        self._cuda, self._allowed = cuda, shapes
        self._real = onnxruntime.InferenceSession(graph, _one_thread(), providers=[CPU])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}

    def create_execution_context(self) -> EngineOnCard:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._allowed[name]
        self._shapes[name] = shape
        return all(a <= s <= b for a, s, b in zip(smallest, shape, largest, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> None:
        assert memory % 256 == 0
        self._places[name] = memory

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes: dict[Any, int] = {}
        for given in self._real.get_inputs():
            sizes |= zip(given.shape, self._shapes[given.name], strict=True)
        (output,) = (o for o in self._real.get_outputs() if o.name == name)
        return tuple(sizes.get(axis, axis) for axis in output.shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        shapes, places = dict(self._shapes), dict(self._places)

        def run() -> None:
            given = {
                i.name: self._cuda.array(places[i.name], shapes[i.name], _dtype(i.type))
                for i in self._real.get_inputs()
            }
            names = [output.name for output in self._real.get_outputs()]
            for name, result in zip(names, self.results(given), strict=True):
                self._cuda.array(places[name], result.shape, result.dtype)[...] = result

        self._cuda.enqueue(run)
        return True

    def results(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What it computes, in the order of the outputs."""
        return list(self._real.run(None, given))


def _dtype(kind: str) -> Any:
    return {"tensor(uint8)": np.uint8, "tensor(int64)": np.int64}.get(kind, np.float32)


@contextmanager
def card(*, runtime: bool = True) -> Iterator[Cuda]:
    """A card with TensorRT and, if asked for, onnxruntime-gpu installed."""
    with pytest.MonkeyPatch.context() as patch:
        yield install(patch, runtime=runtime)


def install(patch: pytest.MonkeyPatch, *, runtime: bool = True) -> Cuda:
    """Put the stand-ins where the real libraries are imported from."""
    cuda = Cuda()
    package, bindings, driver = (
        ModuleType(name) for name in ("cuda", "cuda.bindings", "cuda.bindings.driver")
    )
    bindings.runtime = cuda  # type: ignore[attr-defined]
    bindings.driver = driver  # type: ignore[attr-defined]
    driver.cuuint64_t = int  # type: ignore[attr-defined]
    modules: dict[str, Any] = {
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.driver": driver,
        "cuda.bindings.runtime": cuda,
        "tensorrt": tensorrt_library(cuda),
    }
    if runtime:
        modules["onnxruntime"] = OnnxRuntimeGpu(cuda)
    for name, module in modules.items():
        patch.setitem(__import__("sys").modules, name, module)
    return cuda
