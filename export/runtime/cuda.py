"""ONNX Runtime on an NVIDIA GPU: its CUDA provider, and its TensorRT provider on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import BundleError, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, Vectors
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError

DEVICE = 0
# fp16 is a file of its own whose types say so; bf16 is nothing these providers choose.
PRECISIONS = ("fp32", "fp16")
BAD_FILE = ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NoModel", "NotImplemented")
OUT_OF_MEMORY = ("out of memory", "failed to allocate")


class OnnxRuntimeCuda:
    """Opens graphs in ONNX Runtime's CUDA provider."""

    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    max_clips: int | None = None
    opens_at_once = False

    def __init__(self, memory_limit_bytes: int | None = None) -> None:
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
        # Finds CUDA and cuDNN where pip has put them; else only a system-wide install is seen.
        onnxruntime.preload_dlls()
        self._library = onnxruntime
        self._memory_limit_bytes = memory_limit_bytes

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph file onto the device."""
        if precision not in PRECISIONS:
            raise RuntimeUnavailableError(f"it has no {precision}; use {' or '.join(PRECISIONS)}")
        session = self._session(file, precision)
        # A provider whose libraries do not load is replaced by the processor without an error.
        if session.get_providers()[0] != self.provider:
            raise RuntimeUnavailableError(
                f"{self.provider} did not start; check with nvidia-smi that the driver fits "
                f"onnxruntime-gpu {self._library.__version__}, and install the CUDA and cuDNN "
                "that it names"
            )
        return _BoundGraph(self._library, session, [tensor.name for tensor in graph.outputs])

    def close(self) -> None:
        """Sessions end with their graphs."""

    def _session(self, file: Path, precision: PrecisionName) -> Any:
        options = self._library.SessionOptions()
        options.log_severity_level = 3
        providers = self._providers(precision)
        try:
            return self._library.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # the binding's exception types share no base class
            reason = f"onnxruntime {self._library.__version__}: {error}"
            if type(error).__name__ in BAD_FILE:
                raise BundleError(f"{file} cannot be run by {reason}") from error
            raise RuntimeUnavailableError(
                f"the GPU cannot be used by {reason}; check it with nvidia-smi, and install a "
                "driver that fits"
            ) from error

    def _providers(self, precision: str) -> list[tuple[str, dict[str, str]]]:
        return [("CUDAExecutionProvider", self._cuda_options())]

    def _cuda_options(self) -> dict[str, str]:
        options = {
            "device_id": str(DEVICE),
            "arena_extend_strategy": "kSameAsRequested",
            # TF32 keeps ten bits of a factor: that is not fp32.
            "use_tf32": "0",
        }
        if self._memory_limit_bytes:
            options["gpu_mem_limit"] = str(self._memory_limit_bytes)
        return options


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """Opens graphs in ONNX Runtime's TensorRT provider; what it lacks runs in CUDA's."""

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"

    def _providers(self, precision: str) -> list[tuple[str, dict[str, str]]]:
        fp16 = "1" if precision == "fp16" else "0"
        tensorrt = {"device_id": str(DEVICE), "trt_fp16_enable": fp16}
        return [(self.provider, tensorrt), *super()._providers(precision)]


class _BoundGraph:
    """A session whose inputs go up once and whose outputs come down once for each call."""

    def __init__(self, library: Any, session: Any, names: list[str]) -> None:
        self._library, self._session, self._names = library, session, names

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Vectors]:
        try:
            # Each call has its own binding: calls come from several threads.
            binding = self._session.io_binding()
            for name, array in inputs.items():
                binding.bind_ortvalue_input(name, self._on_device(array))
            for name in self._names:
                binding.bind_output(name, "cuda", DEVICE)
            self._session.run_with_iobinding(binding)
            values = [value.numpy() for value in binding.get_outputs()]
        except Exception as error:
            if any(words in str(error).lower() for words in OUT_OF_MEMORY):
                raise DeviceMemoryError(
                    f"the GPU has no memory left for {_sizes(inputs)}; lower the batch size"
                ) from error
            raise
        return dict(zip(self._names, values, strict=True))

    def _on_device(self, array: Array) -> Any:
        make = self._library.OrtValue.ortvalue_from_numpy
        return make(np.ascontiguousarray(array), "cuda", DEVICE)


def _sizes(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
