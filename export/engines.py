"""TensorRT engines of a bundle's graphs, for the GPU of the machine that builds them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle import EngineInfo, GraphInfo, PrecisionBuild
from export.bundle.manifest import GraphName, PrecisionName
from export.errors import ExportError
from export.runtime import RuntimeUnavailableError
from export.runtime.contract import PAIRS_PER_RUN
from export.runtime.gpu.device import gpu_architecture
from export.runtime.gpu.profiles import MAX_CLIPS, profile
from export.runtime.gpu.tensorrt_engines import load_libraries
from model.progress import Steps

FOLDER = "engines"
WORKSPACE_BYTES = 4 << 30


@dataclass(frozen=True)
class _EngineRequest:
    """An engine to build: of which graph, from which file, computing in what."""

    graph: GraphName
    file: str
    precision: PrecisionName


def build_engines(
    folder: Path,
    graphs: Mapping[GraphName, GraphInfo],
    builds: tuple[PrecisionBuild, ...],
    context_length: int,
    steps: Steps,
    timing_cache: Path | None = None,
) -> tuple[EngineInfo, ...]:
    """Build an engine of every graph, of the video encoder one for each precision.

    `timing_cache` is a file that remembers how fast kernels were from one export to the next.
    `ExportError` where TensorRT or the GPU is missing: engines fit only the GPU they are built on.
    """
    cuda, tensorrt = find_tensorrt()
    (folder / FOLDER).mkdir()
    here = (gpu_architecture(cuda), tensorrt.__version__)
    known = timing_cache.read_bytes() if timing_cache and timing_cache.exists() else b""
    built = []
    for request in _engine_requests(graphs, builds):
        name, precision = request.graph, request.precision
        with steps.step(f"Building the {precision} {name} engine for {here[0]}"):
            shapes = profile(graphs[name], context_length)
            plan, known = _plan(tensorrt, folder / request.file, shapes, known, steps)
        file = f"{FOLDER}/{name}.{precision}.{here[0]}.trt{here[1]}.engine"
        (folder / file).write_bytes(plan)
        built.append(
            EngineInfo(
                graph=name,
                file=file,
                gpu_architecture=here[0],
                tensorrt_version=here[1],
                precision=precision,
                max_clips=MAX_CLIPS,
                max_labels=PAIRS_PER_RUN,
            )
        )
    if timing_cache:
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        timing_cache.write_bytes(known)
    return tuple(built)


def find_tensorrt() -> tuple[Any, Any]:
    """Import CUDA's bindings and TensorRT; ExportError names what is missing."""
    try:
        return load_libraries()
    except RuntimeUnavailableError as error:
        raise ExportError(f"no engines can be built here: {error}") from error


def _engine_requests(
    graphs: Mapping[GraphName, GraphInfo], builds: tuple[PrecisionBuild, ...]
) -> Iterable[_EngineRequest]:
    """List text encoder and score head in fp32, and each build's own video encoder."""
    for name in ("text_encoder", "score_head"):
        yield _EngineRequest(name, graphs[name].file, "fp32")
    for build in builds:
        if build.runs_on("onnxruntime-tensorrt"):
            file = build.graphs.get("video_encoder", graphs["video_encoder"].file)
            yield _EngineRequest("video_encoder", file, build.precision)


def _plan(
    tensorrt: Any,
    graph: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], ...]],
    known: bytes,
    steps: Steps,
) -> tuple[bytes, bytes]:
    """Build the engine of a graph; return it with the timings known after it."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    # Strongly typed: each operator in the types of the graph that was compared with torch. A flag
    # for fp16 or bf16 would leave it to the builder what stays in fp32.
    flag = tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"TensorRT cannot read {graph.name}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    # TF32 keeps ten bits of a factor: that is not fp32.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    sizes = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        sizes.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(sizes)
    _remember(config, known)
    monitor = config.progress_monitor = _monitor(tensorrt, steps)
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise ExportError(f"TensorRT could not build an engine of {graph.name}")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _remember(config: Any, known: bytes) -> None:
    """Give the builder the timings of before, or none where they are of another card."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _monitor(tensorrt: Any, steps: Steps) -> Any:
    """Make a progress monitor that notes TensorRT's phases in the running step."""

    class Monitor(tensorrt.IProgressMonitor):
        """Called from the builder's threads; an exception must not leave it."""

        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._steps: dict[str, int] = {}
            self._turn = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Note how many steps a phase has."""
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Note a step; returning False would end the build."""
            try:
                with self._turn:
                    steps.note(f"{phase_name}, {step + 1} of {self._steps.get(phase_name, 0)}")
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            """Forget a phase."""
            self._steps.pop(phase_name, None)

    return Monitor()
