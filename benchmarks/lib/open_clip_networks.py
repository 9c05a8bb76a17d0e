"""Networks of open_clip in their real size: a folder that it reads itself, and a bundle of ours."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from benchmarks.lib import bundles
from benchmarks.lib.networks import randomise
from export.build import BundleOptions, make_bundle
from export.bundle import Bundle, BundleError, open_bundle
from export.bundle.manifest import PrecisionName
from model.checkpoint import read_network
from model.progress import Steps

# By the name in tables: open_clip's name, and the tag whose preprocessing is taken.
NETWORKS = {"CLIP B/16": ("ViT-B-16-quickgelu", "openai"), "PE-Core-B": ("PE-Core-B-16", "meta")}
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16")
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
WEIGHTS = "open_clip_model.safetensors"


def folder_of(name: str) -> Path:
    """Return the network's folder with random weights, made once; nothing is fetched."""
    import open_clip
    from safetensors.torch import save_file

    model_name, tag = NETWORKS[name]
    folder = bundles.FOLDER / f"{model_name}-open-clip"
    if (folder / WEIGHTS).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    published = open_clip.get_pretrained_cfg(model_name, tag)
    preprocess = {key: published[key] for key in PREPROCESSING if key in published}
    described = {"model_cfg": open_clip.get_model_config(model_name), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    net = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    randomise(net)
    draft = folder / f"{WEIGHTS}.unfinished"
    save_file(net.state_dict(), draft)
    draft.replace(folder / WEIGHTS)
    return folder


def open_clip_bundle(name: str) -> Bundle:
    """Return the network exported by us, in fp32 and where the processor has it bf16, made once."""
    here = bundles.precisions_here(PRECISIONS)
    folder = bundles.FOLDER / f"{NETWORKS[name][0]}-bundle"
    try:
        bundle = open_bundle(folder)
        if {build.precision for build in bundle.manifest.precisions} >= set(here):
            return bundle
    except BundleError:
        pass
    # What random weights make of bf16 is no reason not to time it: the table tells its cosine.
    options = BundleOptions(precisions=here, overwrite=True, force=True)
    return make_bundle(read_network(f"local-dir:{folder_of(name)}"), folder, options, Steps())


def flops_of(tower: nn.Module, pixels: torch.Tensor) -> int:
    """Count the operations, multiply-accumulates × 2, of encoding pictures float32 (N,3,H,W)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Its hooks look for gradients of what is handed from part to part, a parameter too.
    tower.requires_grad_(False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as c:
        tower(pixels)
    return int(c.get_total_flops())
