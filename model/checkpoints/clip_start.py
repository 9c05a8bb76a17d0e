"""Plain CLIP as the start of an X-CLIP.

CLIP brings both towers; what X-CLIP adds begins with its published first values and has to be
trained, or is left out: then the network is CLIP with its frames averaged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoints.architecture import config_from_state_dict
from model.checkpoints.errors import CheckpointError
from model.checkpoints.huggingface import read_safetensors
from model.checkpoints.pickled import read_pickled
from model.checkpoints.weights import State, from_layout
from model.inputs import InputSpec
from model.network.config import HEAD_WIDTH, Activation, ModelConfig
from model.network.initialise import initialise
from model.network.xclip import XClip, assemble

OPEN_CLIP = "open_clip:"
ADDED = re.compile(r".*\.message_(fc|ln|attn)\..*|(mit|patch_context|prompt)\..*")
BARE = {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}
# RGB, 0-255 scale: what CLIP itself was trained with. X-CLIP was not.
CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)


def is_clip(state: Mapping[str, Any]) -> bool:
    """Tell whether the official names hold towers, and nothing that X-CLIP adds to them."""
    video = any(".message_" in n or n.startswith(("mit.", "prompts_")) for n in state)
    return "visual.conv1.weight" in state and not video


def start_from_clip(
    state: Mapping[str, Any],
    activation: Activation,
    where: str,
    *,
    num_frames: int | None = None,
    seed: int = 0,
    frame_average: bool = False,
) -> tuple[XClip, tuple[str, ...]]:
    """Return a network with CLIP's weights, and what a person should know of it.

    Raises CheckpointError naming each tensor of CLIP that is missing, extra or misshapen.
    """
    frames = num_frames or ModelConfig().num_frames
    bare = config_from_state_dict(state, activation, frames, where).model_copy(update=BARE)
    with torch.device("meta"):
        towers = assemble(bare)
    shapes = {name: tuple(t.shape) for name, t in towers.state_dict().items()}
    weights = from_layout(state, shapes, "official", where)
    if frame_average:
        towers = assemble_for_clip(bare)
        towers.load_state_dict(weights, assign=True)
        return towers, ("frame-averaged CLIP: it does not see the order of frames",)
    added = {name: getattr(ModelConfig(), name) for name in BARE}
    net, fresh = _with_first_values(bare.model_copy(update=added), weights, seed)
    note = f"{fresh} tensors that CLIP does not have start from first values: train before use"
    return net, (note,)


def assemble_for_clip(config: ModelConfig) -> XClip:
    """Return a network without weights whose pictures are prepared as CLIP's, not as X-CLIP's."""
    with torch.device("meta"):
        return assemble(config, clip_inputs(config))


def clip_inputs(config: ModelConfig, *, official_pixels: bool = False) -> InputSpec:
    """Return what CLIP takes; `official_pixels` prepares pictures as X-CLIP does, but for their
    mean and deviation.
    """
    statistics = {"mean": CLIP_MEAN, "std": CLIP_STD, "context_length": config.context_length}
    if official_pixels:
        official = InputSpec.official(config.num_frames, config.image_size)
        return official.model_copy(update=statistics)
    return InputSpec(
        num_frames=config.num_frames,
        image_size=config.image_size,
        resize_short_side=config.image_size,
        resize_rule="bilinear-antialias",
        mean=CLIP_MEAN,
        std=CLIP_STD,
        context_length=config.context_length,
    )


def with_parts(net: XClip, parts: Mapping[str, Any], seed: int) -> tuple[XClip, str]:
    """Return the network with those of X-CLIP's own parts, and what a person should know of it.

    `parts` are the fields of ModelConfig that say which (`BARE` has their names). What the
    network lacks begins with first values, what is not wanted is left out.
    """
    config = net.config.model_copy(update=dict(parts))
    other, fresh = _with_first_values(config, net.state_dict(), seed, net.inputs)
    return other, f"{fresh} tensors of added parts start from first values: train before use"


def _with_first_values(
    config: ModelConfig, weights: State, seed: int, inputs: InputSpec | None = None
) -> tuple[XClip, int]:
    net = assemble(config, inputs)
    initialise(net, config, torch.Generator().manual_seed(seed))
    state = net.state_dict()
    fresh = [name for name in state if name not in weights]
    if odd := [name for name in fresh if not ADDED.fullmatch(name)]:
        raise AssertionError(f"CLIP should have brought {odd}")
    kept = {name: tensor for name, tensor in weights.items() if name in state}
    net.load_state_dict(kept, strict=False, assign=True)
    return net, len(fresh)


def open_clip_weights(tag: str) -> tuple[dict[str, Any], Activation]:
    """Fetch the tensors of `MODEL/TAG` in open_clip's registry, and the activation of that tag.

    Downloads them where they are not cached. The activation belongs to the tag, not to the model
    of the same name: `ViT-B-32` alone stands for GELU, and most of its tags for QuickGELU.
    """
    import model.torchvision_schemas  # noqa: F401, I001  (before torchvision)
    from open_clip import get_model_config, get_pretrained_cfg, list_pretrained_tags_by_model
    from open_clip.pretrained import download_pretrained

    name, _, pretrained = tag.partition("/")
    architecture = get_model_config(name)
    if architecture is None:
        raise CheckpointError(
            f"open_clip knows no model {name!r}; an example is {OPEN_CLIP}ViT-B-16/openai"
        )
    weights_config = get_pretrained_cfg(name, pretrained)
    if not weights_config:
        tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise CheckpointError(f"open_clip has no tag {pretrained!r} of {name}; it has: {tags}")
    width = architecture["vision_cfg"].get("head_width", HEAD_WIDTH)
    if width != HEAD_WIDTH:
        raise CheckpointError(f"{name} has heads of width {width}; an X-CLIP has {HEAD_WIDTH}")
    try:
        file = Path(download_pretrained(weights_config))
    # Its own, the hub client's and urllib's errors, in every version others.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{OPEN_CLIP}{tag} cannot be downloaded ({reason}): check the connection, or give the "
            "file itself"
        ) from None
    state = read_safetensors(file) if file.suffix == ".safetensors" else read_pickled(file)
    return state, "quick_gelu" if weights_config.get("quick_gelu") else "gelu"
