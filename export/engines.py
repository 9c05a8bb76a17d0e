"""TensorRT engines of a bundle's graphs, for the GPU of the machine that builds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.bundle import EngineInfo, GraphInfo, TensorInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.errors import ExportError
from export.progress import Steps
from export.runtime import RuntimeUnavailableError
from export.runtime.graph_runtime import PAIRS_PER_RUN, TEXTS_PER_RUN
from export.runtime.tensorrt_engines import gpu_architecture, load_libraries

FOLDER = "engines"
TIMING_CACHE = "timing.cache"
WORKSPACE_BYTES = 4 << 30
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16")
MAX_CLIPS = 64
# Smallest, usual and largest size of each free axis.
RANGES = {"B": (1, 8, MAX_CLIPS), "K": (1, 64, PAIRS_PER_RUN)}
TEXTS, TOKENS = (1, 64, TEXTS_PER_RUN), (1, 16)


def build_engines(
    folder: Path,
    graphs: Mapping[GraphName, GraphInfo],
    precisions: tuple[PrecisionName, ...],
    context_length: int,
    steps: Steps,
) -> tuple[EngineInfo, ...]:
    """Engines of every graph, the video encoder's in each precision that TensorRT has.

    `ExportError` where TensorRT or the GPU is missing: engines fit only the GPU they are built on.
    """
    cuda, tensorrt = find_tensorrt()
    (folder / FOLDER).mkdir()
    here = (gpu_architecture(cuda), tensorrt.__version__)
    wanted: list[tuple[GraphName, PrecisionName]] = [
        ("text_encoder", "fp32"),
        ("score_head", "fp32"),
        *(("video_encoder", p) for p in precisions if p in PRECISIONS),
    ]
    built = []
    for name, precision in wanted:
        with steps.step(f"Building the {precision} {name} engine for {here[0]}"):
            plan = _plan(tensorrt, folder, graphs[name], precision, context_length)
        file = f"{FOLDER}/{name}.{precision}.{here[0]}.trt{here[1]}.engine"
        (folder / file).write_bytes(plan)
        built.append(_info(name, file, here, precision))
    (folder / FOLDER / TIMING_CACHE).unlink(missing_ok=True)
    return tuple(built)


def find_tensorrt() -> tuple[Any, Any]:
    """CUDA's runtime and TensorRT; `ExportError` says what is missing."""
    try:
        return load_libraries()
    except RuntimeUnavailableError as error:
        raise ExportError(f"no engines can be built here: {error}") from error


def _plan(
    tensorrt: Any, folder: Path, graph: GraphInfo, precision: PrecisionName, context_length: int
) -> Any:
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(folder / graph.file)):
        raise ExportError(f"TensorRT cannot read {graph.file}: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    # TF32 keeps ten bits of a factor: that is not fp32. LayerNorm and softmax stay in fp32 anyway.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if precision != "fp32":
        config.set_flag(getattr(tensorrt.BuilderFlag, precision.upper()))
    config.add_optimization_profile(_profile(builder, graph, context_length))
    # Kernels timed for one engine are known to the next.
    cache_file = folder / FOLDER / TIMING_CACHE
    known = cache_file.read_bytes() if cache_file.exists() else b""
    config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT could not build a {precision} engine of {graph.file}")
    cache_file.write_bytes(config.get_timing_cache().serialize())
    return plan


def _profile(builder: Any, graph: GraphInfo, context_length: int) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in graph.inputs:
        ranges = RANGES
        if tensor.name == "token_ids":
            ranges = {"K": TEXTS, "L": (*TOKENS, context_length)}
        profile.set_shape(tensor.name, *(_shape(tensor, ranges, end) for end in range(3)))
    return profile


def _shape(
    tensor: TensorInfo, ranges: Mapping[str, tuple[int, int, int]], end: int
) -> tuple[int, ...]:
    """The input's shape at the smallest (0), usual (1) or largest (2) end of its ranges."""
    return tuple(size if isinstance(size, int) else ranges[size][end] for size in tensor.shape)


def _info(
    name: GraphName, file: str, here: tuple[str, str], precision: PrecisionName
) -> EngineInfo:
    return EngineInfo(
        graph=name,
        file=file,
        gpu_architecture=here[0],
        tensorrt_version=here[1],
        precision=precision,
        max_clips=MAX_CLIPS,
        max_labels=PAIRS_PER_RUN,
    )
