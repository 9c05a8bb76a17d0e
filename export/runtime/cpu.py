"""ONNX Runtime on the processor: exact, everywhere, the default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import BundleError, GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.contract import Array, GraphRun, already_checked, in_host_memory
from export.runtime.cpus import available_cpus
from export.runtime.errors import RuntimeUnavailableError
from export.runtime.features import Features, Vectors
from export.runtime.packed_weights import PackedWeights
from export.runtime.telemetry import keep_quiet

SEPARATE_BYTES = 1024  # initialisers of this size lie in a file of their own, to be mapped
logger = logging.getLogger(__name__)


class OnnxRuntimeCpu:
    """Opens graphs in ONNX Runtime's CPU provider; external weights stay memory-mapped.

    With a folder for `weight_cache` that holds of packed weights, too; `hashes` of the bundle's
    files tell its entries apart, and none is made before `checked()` has come back.
    """

    name = "onnxruntime-cpu"
    max_clips: int | None = None
    prefers_batches = False
    opens_at_once = True  # mostly copying weights, on one processor each

    def __init__(
        self,
        threads: int | None = None,
        weight_cache: Path | None = None,
        hashes: Mapping[str, str] | None = None,
        checked: Callable[[], object] = already_checked,
    ) -> None:
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
        self._checked = checked
        self._packed = (
            PackedWeights(weight_cache, hashes or {}, onnxruntime.__version__)
            if weight_cache
            else None
        )

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph file; a reduced precision is the file's own or not to be had.

        fp16 is right here but slow, each operator between two casts: it is there to be compared.
        """
        if precision == "bf16":
            raise RuntimeUnavailableError("it has no bf16; use fp32, int8 or openvino")
        try:
            session = self._from_packed(file) or self._session(file, self._options())
        except Exception as error:  # the binding's exception types share no base class
            raise BundleError(
                f"{file} cannot be run by onnxruntime {self._library.__version__}: {error}"
            ) from error
        names = [tensor.name for tensor in graph.outputs]

        def run(inputs: Mapping[str, Array]) -> dict[str, Vectors]:
            given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            return dict(zip(names, session.run(names, given), strict=True))

        return run

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, Array]:
        """Return features as contiguous arrays."""
        return in_host_memory(features, names)

    def close(self) -> None:
        """Do nothing: sessions end with their graphs."""

    def _share_memory(self) -> None:
        """Register one pool of working memory for all graphs, grown by what is asked for.

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

    def _from_packed(self, file: Path) -> Any:
        """Open the graph with its weights mapped from the cache; None where that cannot be done."""
        packed = self._packed and self._packed.packed(file, lambda path: self._pack(file, path))
        if not (self._packed and packed):
            return None
        options = self._options()
        # It was optimised before it was written.
        options.graph_optimization_level = self._library.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return self._session(packed, options)
        except Exception as error:
            logger.warning("packed weights of %s cannot be used: %s", file.name, error)
            self._packed.forget(file)
            return None

    def _pack(self, file: Path, packed: Path) -> None:
        self._checked()
        options = self._options()
        options.optimized_model_filepath = str(packed)
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{prefix}file_name", f"{packed.name}.data")
        options.add_session_config_entry(f"{prefix}min_size_in_bytes", str(SEPARATE_BYTES))
        options.add_session_config_entry(
            "session.save_external_prepacked_constant_initializers", "1"
        )
        self._session(file, options)

    def _session(self, file: Path, options: Any) -> Any:
        return self._library.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

    def _options(self) -> Any:
        options = self._library.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that spin while they wait take the processor from the decode workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options
