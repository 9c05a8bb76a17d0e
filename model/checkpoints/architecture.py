"""The architecture, read off the weights of a file that carries no description of itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mode
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from model.checkpoints.errors import CheckpointError
from model.network.config import VARIANTS, Activation, ModelConfig

# What each axis of an official tensor measures: D vision width, E joint width, W text width,
# p patch size, N patches and class token, V vocabulary, C context length, T frames.
AXES = {
    "visual.conv1.weight": "D3pp",
    "visual.class_embedding": "D",
    "visual.positional_embedding": "ND",
    "visual.ln_pre.weight": "D",
    "visual.ln_post.weight": "D",
    "visual.proj": "DE",
    "token_embedding.weight": "VW",
    "positional_embedding": "CW",
    "ln_final.weight": "W",
    "text_projection": "WE",
    "mit.positional_embedding": "1TE",
    "prompts_generator.alpha": "E",
    "prompts_generator.norm.weight": "E",
    "prompts_visual_ln.weight": "D",
    "prompts_visual_proj": "DE",
}


def config_from_state_dict(
    state: Mapping[str, Any],
    activation: Activation = "quick_gelu",
    num_frames: int | None = None,
    where: str = "the state dict",
) -> ModelConfig:
    """Read the architecture off a state dict with official names.

    The activation leaves no trace in weights; every published X-CLIP uses QuickGELU. The number of
    frames is that of the time table; `num_frames` is for CLIP, which has none. CheckpointError
    names a tensor that the answer cannot do without.
    """
    sizes = _sizes(state)
    unknown = [name for axis in "DEWpNVC" if axis not in sizes for name in _telling(axis)]
    if "T" not in sizes and (num_frames is None or _holds(state, "mit.")):
        unknown += _telling("T")
    if unknown:
        raise CheckpointError.misfit(where, [_lack(state, name) for name in dict.fromkeys(unknown)])
    side = math.isqrt(sizes["N"] - 1) if sizes["N"] > 1 else 0
    if side * side != sizes["N"] - 1 or not side:
        problem = f"visual.positional_embedding is {(sizes['N'], sizes['D'])}: no square of patches"
        raise CheckpointError.misfit(where, [problem])
    frames = sizes.get("T", num_frames)
    assert frames is not None
    try:
        return ModelConfig(
            image_size=side * sizes["p"],
            patch_size=sizes["p"],
            num_frames=frames,
            vision_width=sizes["D"],
            vision_layers=_depth(state, "visual.transformer.resblocks") or 1,
            embed_dim=sizes["E"],
            text_width=sizes["W"],
            text_layers=_depth(state, "transformer.resblocks") or 1,
            vocab_size=sizes["V"],
            context_length=sizes["C"],
            mit_layers=_depth(state, "mit.resblocks") or int(_holds(state, "mit.")),
            prompt_layers=_depth(state, "prompts_generator.decoder")
            or int(_holds(state, "prompts_")),
            cross_frame_messages=any(".message_" in name for name in state),
            activation=activation,
        )
    except ValidationError as error:
        raise CheckpointError(f"{where} is no X-CLIP: {error.errors()[0]['msg']}") from None


def _sizes(state: Mapping[str, Any]) -> dict[str, int]:
    """Let most tensors decide each axis: one misshapen tensor is outvoted, and named later."""
    votes: defaultdict[str, list[int]] = defaultdict(list)
    for name, axes in AXES.items():
        tensor = state.get(name)
        if isinstance(tensor, Tensor) and tensor.ndim == len(axes):
            for axis, size in zip(axes, tensor.shape, strict=True):
                votes[axis].append(size)
    return {axis: mode(sizes) for axis, sizes in votes.items()}


def _telling(axis: str) -> list[str]:
    return [name for name, axes in AXES.items() if axis in axes and not _added(name)] or [
        "mit.positional_embedding"
    ]


def _added(name: str) -> bool:
    return name.startswith(("mit.", "prompts_"))


def _lack(state: Mapping[str, Any], name: str) -> str:
    if name not in state:
        return f"missing {name}"
    shape = getattr(state[name], "shape", None)
    seen = type(state[name]).__name__ if shape is None else tuple(shape)
    return f"{name} is {seen}, should have {len(AXES[name])} dimensions"


def _holds(state: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state)


def _depth(names: Iterable[str], prefix: str) -> int:
    """Return one more than the highest layer number below the prefix."""
    numbers = [n.removeprefix(f"{prefix}.").split(".")[0] for n in names if n.startswith(prefix)]
    return max((int(n) for n in numbers if n.isdecimal()), default=-1) + 1


def variant_of(config: ModelConfig) -> str | None:
    """Return the first published variant with this architecture."""
    plain = config.model_copy(update={"drop_path": 0.0, "prompt_alpha": ModelConfig().prompt_alpha})
    return next((name for name, variant in VARIANTS.items() if variant == plain), None)
