"""Reduced precisions of the video encoder. Text encoder and score head stay in fp32: they cost
little, label vectors are shared between precisions, and the cosine at the end needs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.bundle import EngineInfo, GraphInfo, PrecisionBuild
from export.bundle.manifest import PrecisionName, RuntimeName
from export.calibration import int8_calibrated
from export.clips import ClipSamples
from export.half_precision import write_half
from export.runtime.telemetry import keep_quiet
from export.tracing import MAX_INLINE_BYTES

EXACT = PrecisionBuild(precision="fp32", method="as traced")
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16", "int8")


def make_builds(
    folder: Path,
    video_encoder: GraphInfo,
    precisions: tuple[PrecisionName, ...],
    calibration: ClipSamples | None = None,
) -> tuple[PrecisionBuild, ...]:
    """Make the builds of the requested precisions, in order; write files into the folder.

    With clips to calibrate on there is a second int8, for OpenVINO.
    """
    file = video_encoder.file
    builds: list[PrecisionBuild] = []
    for precision in precisions:
        if precision == "fp32":
            builds.append(EXACT)
        elif precision == "fp16":
            builds += _half(folder, file, precision)
        elif precision == "bf16":
            builds += [_bf16_openvino(), *_half(folder, file, precision)]
        elif precision == "int8":
            if calibration:
                builds.append(int8_calibrated(folder, file, calibration))
            builds.append(_int8_dynamic(folder, file))
        else:
            raise ValueError(f"no way to {precision} yet; choose from {', '.join(PRECISIONS)}")
    return tuple(builds)


def with_engines(
    builds: tuple[PrecisionBuild, ...], engines: tuple[EngineInfo, ...]
) -> tuple[PrecisionBuild, ...]:
    """Allow TensorRT for the builds that engines were built from."""
    have = {engine.precision for engine in engines if engine.graph == "video_encoder"}
    return tuple(
        build.model_copy(update={"runtimes": ("tensorrt", *build.runtimes)})
        if build.precision in have and "onnxruntime-tensorrt" in build.runtimes
        else build
        for build in builds
    )


def _half(folder: Path, fp32_file: str, precision: PrecisionName) -> list[PrecisionBuild]:
    """Make the graphs of a half precision: TensorRT fuses attention itself, CUDA's is fused."""
    plain, fused = write_half(folder, fp32_file, precision)
    how = f"types in the graph: tower in {precision}, LayerNorm, softmax and all after it in fp32"

    def build(file: str, runtimes: tuple[RuntimeName, ...], method: str) -> PrecisionBuild:
        return PrecisionBuild(
            precision=precision,
            runtimes=runtimes,
            graphs={"video_encoder": file},
            reduced=("video_encoder",),
            method=method,
        )

    if fused is None:
        return [build(plain, ("onnxruntime-tensorrt", "onnxruntime-cuda"), how)]
    return [
        build(plain, ("onnxruntime-tensorrt",), how),
        build(fused, ("onnxruntime-cuda",), f"{how}; attention as one operator"),
    ]


def _bf16_openvino() -> PrecisionBuild:
    return PrecisionBuild(
        precision="bf16",
        runtimes=("openvino",),
        reduced=("video_encoder",),
        method="OpenVINO multiplies in bf16 and accumulates in fp32, from the fp32 graph",
    )


def _int8_dynamic(folder: Path, fp32_file: str) -> PrecisionBuild:
    """Quantise weights per channel, and activations as they come: no calibration clips."""
    keep_quiet()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    name = fp32_file.removesuffix(".onnx") + ".int8.onnx"
    with _silenced():
        quantize_dynamic(
            folder / fp32_file,
            folder / name,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=_weights_bytes(folder / fp32_file) > 4 * MAX_INLINE_BYTES,
            extra_options={"MatMulConstBOnly": True},
        )
    return PrecisionBuild(
        precision="int8",
        runtimes=("onnxruntime-cpu",),
        graphs={"video_encoder": name},
        reduced=("video_encoder",),
        # One scale for a whole tensor: with two clips in it, each would change the other.
        clips_per_run=1,
        method="dynamic: int8 weights per channel, activations scaled per clip",
    )


def _weights_bytes(graph: Path) -> int:
    beside = graph.with_name(graph.name + ".data")
    return beside.stat().st_size if beside.exists() else graph.stat().st_size


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the quantiser, which advises preparing what is folded already."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
