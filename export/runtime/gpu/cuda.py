"""ONNX Runtime on an NVIDIA GPU: its CUDA provider, and its TensorRT provider on top."""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import Bundle, BundleError, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, RuntimeOptions
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.features import Features
from export.runtime.gpu.cuda_graphs import CapturedRuns
from export.runtime.gpu.device import DEVICE, Device, DeviceArray, load_cuda
from export.runtime.gpu.device_features import DeviceFeatures, on_device
from export.runtime.gpu.profiles import profile
from export.runtime.telemetry import keep_quiet

# Half precisions are files of their own whose types say so.
PRECISIONS = ("fp32", "fp16", "bf16")
BAD_FILE = ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NoModel", "NotImplemented")
OUT_OF_MEMORY = ("out of memory", "failed to allocate")
COPIES_SHARE = 8  # the part of the device memory allowed that is for inputs: one in eight
WORKSPACE_BYTES = 4 << 30  # for TensorRT while it builds


class OnnxRuntimeCuda:
    """Opens graphs in ONNX Runtime's CUDA provider."""

    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    library_file = "libonnxruntime_providers_cuda.so"
    max_clips: int | None = None
    prefers_batches = True
    opens_at_once = False

    def __init__(self, options: RuntimeOptions | None = None) -> None:
        keep_quiet()
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"onnxruntime is not installed ({error}); install xclip-serve[gpu]"
            ) from error
        if self.provider not in onnxruntime.get_available_providers():
            raise RuntimeUnavailableError(
                f"this onnxruntime has no {self.provider}; install xclip-serve[gpu] in place of "
                "xclip-serve[cpu]"
            )
        self._library = onnxruntime
        self._options = options or RuntimeOptions()
        cuda = load_cuda()
        # Finds CUDA and cuDNN where pip has put them; else only a system-wide install is seen. What
        # it prints is said again, better, where a provider does not start.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
        limit = self._options.gpu_memory_bytes
        # What is bound to the graphs is small beside what they work in.
        self._pool_bytes = limit - limit // COPIES_SHARE if limit else None
        self._device = Device(cuda, limit // COPIES_SHARE if limit else None)
        self._share_memory()

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph file onto the device."""
        if precision not in PRECISIONS:
            raise RuntimeUnavailableError(f"it has no {precision}; use {' or '.join(PRECISIONS)}")
        # Text and labels come in any number: there is no size to capture.
        capture = name == "video_encoder" and self._options.cuda_graphs
        session = self._session(graph, file, precision, capture=capture)
        # A provider whose libraries do not load is replaced by the processor without an error.
        if session.get_providers()[0] != self.provider:
            raise RuntimeUnavailableError(
                f"{self.provider} did not start ({self._missing_library()}); install the CUDA and "
                f"cuDNN that onnxruntime-gpu {self._library.__version__} names, as wheels with "
                "onnxruntime-gpu[cuda,cudnn]"
            )
        captured = CapturedRuns(self._library, self._device, session, graph) if capture else None
        names = [tensor.name for tensor in graph.outputs]
        return _BoundGraph(self._device, session, names, captured)

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, DeviceArray]:
        """Return features on the device: as the video encoder left them, or uploaded once."""
        return on_device(self._device, features, names)

    def close(self) -> None:
        """Do nothing: sessions end with their graphs."""
        self._device.close()

    def _session(
        self, graph: GraphInfo, file: Path, precision: PrecisionName, *, capture: bool
    ) -> Any:
        library = self._library
        settings = library.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.use_env_allocators", "1")
        providers = self._providers(graph, precision)
        if capture:
            providers[-1][1]["enable_cuda_graph"] = "1"
        try:
            # Without the library's own way back to other providers, which prints and hides why.
            return library.InferenceSession(
                str(file), settings, providers=providers, enable_fallback=0
            )
        except Exception as error:  # the binding's exception types share no base class
            reason = f"onnxruntime {library.__version__}: {_line(error)}"
            if type(error).__name__ in BAD_FILE:
                raise BundleError(f"{file} cannot be run by {reason}") from error
            if is_out_of_memory(error):
                raise RuntimeUnavailableError(
                    f"the GPU has too little free memory to load {file.name}; see with nvidia-smi "
                    "who has it, serve fp16, or raise XCLIP_GPU_MEMORY_BYTES"
                ) from error
            raise RuntimeUnavailableError(
                f"the GPU cannot be used by {reason} ({self._missing_library()}); check the "
                "driver with nvidia-smi"
            ) from error

    def _providers(
        self, graph: GraphInfo, precision: PrecisionName
    ) -> list[tuple[str, dict[str, str]]]:
        return [("CUDAExecutionProvider", self._cuda_options())]

    def _cuda_options(self) -> dict[str, str]:
        options = {
            "device_id": str(DEVICE),
            "arena_extend_strategy": "kSameAsRequested",
            # One stream with our copies: what is bound need not be waited for.
            "user_compute_stream": str(self._device.stream),
            # Otherwise each new batch size is tried with every algorithm: seconds, in a request.
            "cudnn_conv_algo_search": "HEURISTIC",
            # TF32 keeps ten bits of a factor: that is not fp32.
            "use_tf32": "0",
        }
        if self._pool_bytes:
            options["gpu_mem_limit"] = str(self._pool_bytes)
        return options

    def _share_memory(self) -> None:
        """Register one pool of device memory for all graphs, so that they share its limit.

        By default each session has a pool, and a limit, of its own.
        """
        library = self._library
        where = library.OrtMemoryInfo(
            "Cuda", library.OrtAllocatorType.ORT_ARENA_ALLOCATOR, DEVICE, library.OrtMemType.DEFAULT
        )
        settings = {"max_mem": self._pool_bytes or 0, "arena_extend_strategy": 1}
        pool = library.OrtArenaCfg(settings)
        # No pool: each session keeps its own. The provider then says itself why it does not start;
        # or the process has one already, from a bundle before this.
        with contextlib.suppress(RuntimeError):
            library.create_and_register_allocator_v2(
                "CUDAExecutionProvider", where, {"device_id": str(DEVICE)}, pool
            )

    def _missing_library(self) -> str:
        """Load the provider's library; return the loader's message, which names what it lacks."""
        folder = Path(getattr(self._library, "__file__", "") or ".").parent / "capi"
        try:
            ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(folder / self.library_file))
        except OSError as error:
            return _line(error)
        return "its libraries load"


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """Opens graphs in ONNX Runtime's TensorRT provider; what it lacks runs in CUDA's."""

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    library_file = "libonnxruntime_providers_tensorrt.so"

    def __init__(self, bundle: Bundle, options: RuntimeOptions | None = None) -> None:
        super().__init__(options)
        # Its engines have a switch of their own; single kernels are few there.
        self._options = replace(self._options, cuda_graphs=False)
        self._context_length = bundle.manifest.inputs.context_length
        cache = self._options.engine_cache
        # The provider tells engines apart by the graph's form, not by its weights.
        self._cache = cache / bundle.hash[:16] if cache else None

    def _providers(
        self, graph: GraphInfo, precision: PrecisionName
    ) -> list[tuple[str, dict[str, str]]]:
        options = {
            "device_id": str(DEVICE),
            "user_compute_stream": str(self._device.stream),
            "trt_fp16_enable": "1" if precision == "fp16" else "0",
            "trt_bf16_enable": "1" if precision == "bf16" else "0",
            "trt_layer_norm_fp32_fallback": "1",
            "trt_max_workspace_size": str(
                min(self._pool_bytes or WORKSPACE_BYTES, WORKSPACE_BYTES)
            ),
            **self._shapes(graph),
            **self._caches(precision),
        }
        return [(self.provider, options), *super()._providers(graph, precision)]

    def _shapes(self, graph: GraphInfo) -> dict[str, str]:
        """Return the profile of all sizes; without one the provider rebuilds for each new size."""
        shapes = profile(graph, self._context_length)
        return {
            f"trt_profile_{end}_shapes": ",".join(
                f"{name}:{'x'.join(map(str, sizes[index]))}" for name, sizes in shapes.items()
            )
            for index, end in enumerate(("min", "opt", "max"))
        }

    def _caches(self, precision: str) -> dict[str, str]:
        if self._cache is None:
            return {"trt_engine_cache_enable": "0"}
        folder = self._cache / precision
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(self._cache.parent),
        }


class _BoundGraph:
    """A session whose inputs go up once, and whose outputs stay up until somebody looks."""

    def __init__(
        self, device: Device, session: Any, names: list[str], captured: CapturedRuns | None
    ) -> None:
        self._device, self._session, self._names = device, session, names
        self._captured = captured

    def __call__(self, inputs: Mapping[str, Array | DeviceArray]) -> DeviceFeatures:
        try:
            with self._device.turn:
                return DeviceFeatures(self._device, self._run(inputs))
        except Exception as error:
            if is_out_of_memory(error):
                raise DeviceMemoryError(
                    f"the GPU has no memory left for {_sizes(inputs)}; lower the batch size"
                ) from error
            raise

    def _run(self, inputs: Mapping[str, Array | DeviceArray]) -> dict[str, DeviceArray]:
        captured = self._captured
        if captured is not None and captured.fits(inputs):
            return captured.run(inputs)
        binding = self._session.io_binding()
        for name, array in self._device.upload(inputs).items():
            binding.bind_input(name, "cuda", DEVICE, array.dtype, array.shape, array.pointer)
        for name in self._names:
            binding.bind_output(name, "cuda", DEVICE)
        self._session.run_with_iobinding(binding, captured and captured.other_sizes)
        values = binding.get_outputs()
        self._device.synchronize()
        return {
            name: DeviceArray(value.data_ptr(), tuple(value.shape()), np.dtype(np.float32), value)
            for name, value in zip(self._names, values, strict=True)
        }


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of the library, which has no type for it, is about memory."""
    if isinstance(error, DeviceMemoryError):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _sizes(inputs: Mapping[str, Array | DeviceArray]) -> str:
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in inputs.items())
