"""OpenVINO on the processor: the same graphs, also in bf16 where the machine multiplies it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from export.bundle import BundleError, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, in_host_memory
from export.runtime.cpus import allowed_cpus, available_cpus
from export.runtime.errors import RuntimeUnavailableError
from export.runtime.features import Features, Vectors

# OpenVINO computes in bf16 on its own where the machine can: it must be told not to. An int8
# graph carries its own types; what it leaves in float then runs in fp32, too.
COMPUTE_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoCpu:
    """Opens graphs in OpenVINO's CPU plug-in."""

    name = "openvino"
    max_clips: int | None = None
    prefers_batches = False
    opens_at_once = True  # mostly copying weights, on one processor each

    def __init__(self, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"openvino is not installed ({error}); install xclip-serve[cpu]"
            ) from error
        self._library = openvino
        self._core = openvino.Core()
        self._threads = threads or available_cpus()

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph file; the machine must multiply the precision, not imitate it."""
        if precision not in COMPUTE_TYPES:
            raise RuntimeUnavailableError(f"it has no {precision}; choose fp32, bf16 or int8")
        if precision == "bf16" and not self.has_bf16():
            raise RuntimeUnavailableError(
                "this processor has no bf16 (AVX512-BF16 or AMX); use fp32"
            )
        try:
            compiled = self._core.compile_model(file, "CPU", self._settings(precision))
        except RuntimeError as error:
            raise BundleError(
                f"{file} cannot be run by openvino {self._library.__version__}: {error}"
            ) from error
        return _Requests(compiled, [tensor.name for tensor in graph.outputs])

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, Array]:
        """Return features as contiguous arrays."""
        return in_host_memory(features, names)

    def has_bf16(self) -> bool:
        """Return whether this processor multiplies bf16."""
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def close(self) -> None:
        """Do nothing: compiled graphs end with their requests."""

    def _settings(self, precision: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": COMPUTE_TYPES[precision],
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Left to itself it binds n threads to the first n processors it may use: containers
            # with a share of the machine would all crowd on the same ones.
            "ENABLE_CPU_PINNING": self._threads >= allowed_cpus(),
        }


class _Requests:
    """One compiled graph; each call that runs at the same time as others has its own request."""

    def __init__(self, compiled: Any, names: list[str]) -> None:
        self._compiled, self._names = compiled, names
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Vectors]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            request.infer(given, share_inputs=True)
            # The request's own buffers are written again by the next call: copies leave here.
            return {name: np.array(request.get_tensor(name).data) for name in self._names}
        finally:
            self._idle.put(request)
