"""Networks and bundles of real size to measure on, made once and kept in `build/`.

Weights are random with spread norms and biases: speed does not depend on training.
"""

from __future__ import annotations

from pathlib import Path

import torch

from export.build import BundleOptions, make_bundle
from export.bundle import Bundle, BundleError, open_bundle
from export.bundle.manifest import PrecisionName
from export.progress import Steps
from export.runtime import RuntimeUnavailableError
from export.runtime.cpu_openvino import OpenVinoCpu
from model.checkpoint import Checkpoint
from model.config import VARIANTS, ModelConfig
from model.xclip import XClip, build_xclip

FOLDER = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
# X-CLIP without its own parts: CLIP on each frame, then the mean.
WITHOUT_ITS_PARTS = {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}


def random_network(variant: str) -> XClip:
    """A published variant with random weights, the same in every run."""
    return random_weights(VARIANTS[variant])


def random_weights(config: ModelConfig) -> XClip:
    """A network of that architecture with random weights, the same in every run."""
    net = build_xclip(config, seed=0).eval().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(1)
    for name, p in net.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 0:
            p.fill_(4.6)
        elif p.ndim > 1:
            p.copy_(0.7 * noise / p.shape[-1] ** 0.5)
        else:
            p.copy_(0.2 * noise + name.endswith(("ln_1.weight", "ln_2.weight", "norm.weight")))
    return net


def bundle_of(
    variant: str, precisions: tuple[PrecisionName, ...], clips: tuple[Path, ...] = ()
) -> Bundle:
    """The variant's bundle in those of these precisions that this machine has.

    One in `build/` that has them is taken.
    """
    here = tuple(p for p in precisions if p != "bf16" or _has_bf16())
    return _kept(variant, VARIANTS[variant], here, clips)


def missing_from(bundle: Bundle, precisions: tuple[PrecisionName, ...]) -> dict[str, str]:
    """The precisions that `bundle_of` left out, and why."""
    have = {build.precision for build in bundle.manifest.precisions}
    return {p: f"this processor has no {p}" for p in precisions if p not in have}


def frame_averaging_bundle(variant: str) -> Bundle:
    """CLIP of the variant's size as ONNX graphs, the vectors of its frames averaged."""
    config = VARIANTS[variant].model_copy(update=WITHOUT_ITS_PARTS)
    return _kept(f"{variant}-frame-averaging", config, ("fp32",))


def _has_bf16() -> bool:
    try:
        return OpenVinoCpu().has_bf16()
    except RuntimeUnavailableError:
        return False


def _kept(
    name: str,
    config: ModelConfig,
    precisions: tuple[PrecisionName, ...],
    clips: tuple[Path, ...] = (),
) -> Bundle:
    folder = FOLDER / name
    try:
        bundle = open_bundle(folder)
        if {build.precision for build in bundle.manifest.precisions} >= set(precisions):
            return bundle
    except BundleError:
        pass
    checkpoint = Checkpoint(random_weights(config), name, "random weights", trained=False)
    options = BundleOptions(precisions=precisions, clips=clips, overwrite=True)
    return make_bundle(checkpoint, folder, options, Steps())
