"""ONNX Runtime on the processor: exact, everywhere, the default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.bundle import BundleError, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, in_host_memory
from export.runtime.cpus import available_cpus
from export.runtime.errors import RuntimeUnavailableError
from export.runtime.features import Features, Vectors
from export.runtime.telemetry import keep_quiet


class OnnxRuntimeCpu:
    """Opens graphs in ONNX Runtime's CPU provider; external weights stay memory-mapped."""

    name = "onnxruntime-cpu"
    max_clips: int | None = None
    opens_at_once = True  # mostly copying weights, on one processor each

    def __init__(self, threads: int | None = None) -> None:
        keep_quiet()
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"onnxruntime is not installed ({error}); install xclip-serve[cpu]"
            ) from error
        self._library = onnxruntime
        self._threads = threads or available_cpus()
        self._share_memory()

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph file; a reduced precision is the file's own or not to be had.

        fp16 is right here but slow, each operator between two casts: it is there to be compared.
        """
        if precision == "bf16":
            raise RuntimeUnavailableError("it has no bf16; use fp32, int8 or openvino")
        library = self._library
        try:
            session = library.InferenceSession(
                str(file), self._options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the binding's exception types share no base class
            raise BundleError(
                f"{file} cannot be run by onnxruntime {library.__version__}: {error}"
            ) from error
        names = [tensor.name for tensor in graph.outputs]

        def run(inputs: Mapping[str, Array]) -> dict[str, Vectors]:
            given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            return dict(zip(names, session.run(names, given), strict=True))

        return run

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, Array]:
        """Features as arrays in one piece."""
        return in_host_memory(features, names)

    def close(self) -> None:
        """Sessions end with their graphs."""

    def _share_memory(self) -> None:
        """One pool of working memory for all graphs, grown by what is asked for.

        By default each graph keeps a pool of its own that grows by doubling: a fifth more memory
        for the three of B/32, and no faster.
        """
        library = self._library
        where = library.OrtMemoryInfo(
            "Cpu", library.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, library.OrtMemType.DEFAULT
        )
        settings = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1}
        pool = library.OrtArenaCfg(settings | {"max_dead_bytes_per_chunk": -1})
        library.create_and_register_allocator(where, pool)

    def _options(self) -> object:
        options = self._library.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that spin while they wait take the processor from the decode workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options
