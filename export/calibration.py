"""int8 with ranges measured on clips: OpenVINO's graph, quantised by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

from export.bundle import PrecisionBuild
from export.clips import ClipSamples
from export.errors import ExportError


def int8_calibrated(folder: Path, fp32_file: str, clips: ClipSamples) -> PrecisionBuild:
    """Quantise weights and activations by the ranges that the clips bring about.

    Writes `NAME.int8.xml` and `.bin`. Scales are fixed, so clips of a batch do not feel each other.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise ExportError(
            f"calibration needs OpenVINO and NNCF ({error}); install xclip-serve[cpu,export]"
        ) from error
    name = fp32_file.removesuffix(".onnx") + ".int8.xml"
    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset([{"frames": clip[None]} for clip in clips.frames])
    # NNCF draws its own progress bars on standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        quantised = nncf.quantize(
            openvino.Core().read_model(folder / fp32_file),
            dataset,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(clips.frames),
        )
    openvino.save_model(quantised, folder / name, compress_to_fp16=False)
    return PrecisionBuild(
        precision="int8",
        runtimes=("openvino",),
        graphs={"video_encoder": name},
        reduced=("video_encoder",),
        method=f"calibrated on {len(clips.frames)} clips",
    )
