"""Bundles of real size to measure on, made once and kept in `build/`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.lib.networks import random_weights
from export.build import BundleOptions, make_bundle
from export.bundle import Bundle, BundleError, open_bundle
from export.bundle.manifest import PrecisionName
from export.runtime import RuntimeUnavailableError
from export.runtime.cpu_openvino import OpenVinoCpu
from model.checkpoint import Checkpoint
from model.data.shapes.dataset import ShapesOptions, make_dataset
from model.inputs import Tokenizer
from model.network.config import VARIANTS, ModelConfig
from model.progress import Steps

FOLDER = Path(__file__).resolve().parents[2] / "build" / "benchmarks"
CALIBRATION_CLIPS = 16
BYTES_AND_ENDS = 2 * 256 + 2  # what every vocabulary has beside its merges
# X-CLIP without its own parts: CLIP on each frame, then the mean.
WITHOUT_ITS_PARTS = {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}


def bundle_of(
    variant: str, precisions: tuple[PrecisionName, ...], clips: tuple[Path, ...] = ()
) -> Bundle:
    """Return the variant's bundle in those of these precisions that this machine has.

    One in `build/` that has them is taken. int8 is made in both ways where OpenVINO is installed:
    calibrated, which a server then takes first, and dynamic.
    """
    return _kept(variant, VARIANTS[variant], precisions_here(precisions), clips)


def precisions_here(precisions: tuple[PrecisionName, ...]) -> tuple[PrecisionName, ...]:
    """Return those of them that this processor has."""
    return tuple(p for p in precisions if p != "bf16" or _has_bf16())


def missing_from(bundle: Bundle, precisions: tuple[PrecisionName, ...]) -> dict[str, str]:
    """Return the precisions that `bundle_of` left out, and why."""
    have = {build.precision for build in bundle.manifest.precisions}
    return {p: f"this processor has no {p}" for p in precisions if p not in have}


def frame_averaging_bundle(variant: str) -> Bundle:
    """Make CLIP of the variant's size as ONNX graphs, the vectors of its frames averaged."""
    config = VARIANTS[variant].model_copy(update=WITHOUT_ITS_PARTS)
    return _kept(f"{variant}-frame-averaging", config, ("fp32",))


def _has_bf16() -> bool:
    return _has_openvino() and OpenVinoCpu().has_bf16()


def _has_openvino() -> bool:
    try:
        OpenVinoCpu()
    except RuntimeUnavailableError:
        return False
    return True


def _kept(
    name: str,
    config: ModelConfig,
    precisions: tuple[PrecisionName, ...],
    clips: tuple[Path, ...] = (),
) -> Bundle:
    folder = FOLDER / name
    calibrate = "int8" in precisions and _has_openvino()
    try:
        bundle = open_bundle(folder)
        builds = bundle.manifest.precisions
        calibrated = any(b.precision == "int8" and b.runs_on("openvino") for b in builds)
        if {b.precision for b in builds} >= set(precisions) and calibrated >= calibrate:
            return bundle
    except BundleError:
        pass
    with tempfile.TemporaryDirectory() as temporary:
        options = BundleOptions(
            precisions=precisions,
            clips=clips,
            calibration=_calibration_clips(Path(temporary)) if calibrate else (),
            overwrite=True,
        )
        return make_bundle(random_checkpoint(name, config), folder, options, Steps())


def _calibration_clips(folder: Path) -> tuple[Path, ...]:
    """Draw moving shapes, of another kind than the clips that parity is measured on."""
    make_dataset(folder, ShapesOptions(CALIBRATION_CLIPS, val_clips=0, unseen_clips=0))
    return tuple(sorted(file for file in (folder / "clips").rglob("*") if file.is_file()))


def random_checkpoint(name: str, config: ModelConfig) -> Checkpoint:
    """Make a checkpoint of a random network with a tokenizer that fits it."""
    net = random_weights(config)
    return Checkpoint(net, name, "random weights", False, tokenizer_of(config))


def tokenizer_of(config: ModelConfig) -> Tokenizer:
    """Return CLIP's, or for a small vocabulary as many of its merges as fit."""
    if config.vocab_size == Tokenizer.clip().vocab_size:
        return Tokenizer.clip()
    return Tokenizer.truncated(config.vocab_size - BYTES_AND_ENDS)
