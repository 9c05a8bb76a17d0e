"""CLIP's descendants for videos, ViFi-CLIP, Open-VCLIP and FROSTER, in files as they are published;
and folders of transformers' CLIP.

The files hold OpenAI's CLIP under other names. Every tensor is accounted for: one that is missing,
not wanted, or of another shape is named as the file names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.architecture import config_from_state_dict
from model.checkpoints.clip_start import (
    BARE,
    CLIP_MEAN,
    CLIP_STD,
    OPEN_CLIP,
    clip_inputs,
    open_clip_weights,
)
from model.checkpoints.errors import CheckpointError
from model.checkpoints.huggingface import (
    architecture_of,
    inputs_of,
    read_safetensors,
    tensors_of,
)
from model.checkpoints.loaded import LoadedNetwork
from model.checkpoints.native import read_tokenizer
from model.checkpoints.open_clip_networks import TEMPLATES
from model.checkpoints.pickled import read_pickled
from model.checkpoints.weights import from_layout
from model.inputs.spec import PIL_BICUBIC
from model.inputs.text.templates import KINETICS
from model.network.config import ModelConfig
from model.network.video_clip import OverTime, VideoClip
from model.network.xclip import assemble

TOKENS = "token_embedding.weight"
# (width, patch, pixels) -> the CLIP of that size, which all three were trained from.
CLIPS = {
    (768, 32, 224): f"{OPEN_CLIP}ViT-B-32/openai",
    (768, 16, 224): f"{OPEN_CLIP}ViT-B-16/openai",
    (1024, 14, 224): f"{OPEN_CLIP}ViT-L-14/openai",
    (1024, 14, 336): f"{OPEN_CLIP}ViT-L-14-336/openai",
}
MISSPELT = ("pre_layrnorm", "pre_layernorm")  # by transformers' CLIP, not by its X-CLIP
AVERAGED = OverTime(neighbours=False, unit_frames=False)
# What transformers' processor of CLIP does where a folder says nothing.
CLIP_PROCESSOR = {
    "resample": PIL_BICUBIC,
    "image_mean": [m / 255 for m in CLIP_MEAN],
    "image_std": [s / 255 for s in CLIP_STD],
}


@dataclass(frozen=True)
class ClipShare:
    """CLIP beside a file that was trained from it.

    Attributes:
        source: `open_clip:MODEL/TAG` or a file; None takes OpenAI's of the same size.
        share: The part r of CLIP in r·CLIP + (1 - r)·file, from 0 to 1.
    """

    source: str | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Form:
    """One of the published layouts.

    Attributes:
        name: What the network is called.
        licence: As its authors state it.
        dropped: Beginnings of names that serving has no use for.
        prefixes: From the beginning of a name in the file to that of the official one.
        over_time: What the network does over time.
        templates: The prompts it was published with.
        num_frames: Frames of a clip.
        official_pixels: Whether pictures are prepared as X-CLIP's (short side 256 of 224 pixels),
            else as CLIP's own; mean and deviation are CLIP's.
        mixed: Whether it was published with weights mixed with CLIP's.
        lacks: Tensors that are not in the file, and CLIP's.
    """

    name: str
    licence: str
    dropped: tuple[str, ...]
    prefixes: Mapping[str, str]
    over_time: OverTime
    templates: tuple[str, ...]
    num_frames: int = 8
    official_pixels: bool = False
    mixed: bool = False
    lacks: tuple[str, ...] = ()


VIFI = Form(
    "ViFi-CLIP",
    "none stated by its authors",
    tuple(
        f"prompt_learner.{n}" for n in ("complete_text_embeddings", "token_prefix", "token_suffix")
    ),
    {"image_encoder.": "visual.", "text_encoder.": "", "logit_scale": "logit_scale"},
    AVERAGED,
    ("a photo of a {}.",),
    num_frames=32,
    official_pixels=True,
    lacks=(TOKENS,),
)
OPEN_VCLIP = Form(
    "Open-VCLIP",
    "none stated by its authors",
    (),
    {"model.": ""},
    OverTime(neighbours=True, unit_frames=True),
    KINETICS,
    mixed=True,
)
FROSTER = Form(
    "FROSTER",
    "non-commercial",
    ("projector_v.", "projector_t.", "raw_model."),
    {"model.": ""},
    OverTime(neighbours=True, unit_frames=True),
    KINETICS,
)


def form_of(tensors: Mapping[str, Any]) -> Form | None:
    """Return the published layout that the names of a file are in; None for another."""
    if any(name.startswith("image_encoder.") for name in tensors):
        return VIFI
    if not any(name.startswith("model.visual.") for name in tensors):
        return None
    teacher = any(name.removeprefix("model.").startswith(FROSTER.dropped) for name in tensors)
    return FROSTER if teacher else OPEN_VCLIP


def read_video_clip(
    path: Path,
    tensors: Mapping[str, Any],
    form: Form,
    clip: ClipShare,
    num_frames: int | None = None,
) -> LoadedNetwork:
    """Make a network of the tensors of a file.

    Args:
        path: The file, for messages.
        tensors: What it holds.
        form: The layout they are in.
        clip: CLIP, for what the file does not hold and for mixing.
        num_frames: Frames T of a clip; None takes those it was published with.

    Raises:
        CheckpointError: Each tensor that does not fit; or CLIP cannot be had.
    """
    state, names = _official(tensors, form)
    where, share = str(path), clip.share
    if share and not form.mixed:
        raise CheckpointError(f"{form.name} is not mixed with CLIP: leave --clip-share out")
    source = clip.source or _clip_of_size(state, where) if form.lacks or share else ""
    whole = _read_clip(source) if source else {}
    state |= {name: whole[name] for name in form.lacks if name in whole}
    frames = num_frames or form.num_frames
    config = config_from_state_dict(state, "quick_gelu", frames, where).model_copy(update=BARE)
    with torch.device("meta"):
        towers = assemble(config)
    shapes = {name: tuple(t.shape) for name, t in towers.state_dict().items()}

    def called(name: str) -> str:
        return f"{name} of {source}" if name in form.lacks else _in_the_file(name, names, form)

    weights = from_layout(state, shapes, "official", where, called)
    if share:
        of_clip = from_layout(whole, shapes, "official", source)
        weights = {n: share * of_clip[n] + (1 - share) * w for n, w in weights.items()}
    towers.load_state_dict(weights, assign=True)
    inputs = clip_inputs(config, official_pixels=form.official_pixels)
    net = VideoClip(towers, inputs, form.over_time, f"{form.name} {config.variant}")
    return LoadedNetwork(
        net.eval(),
        path.stem,
        where,
        notes=(f"licence of {form.name}: {form.licence}", *_mixing(form, share)),
        templates=form.templates,
        licence=form.licence,
    )


def read_clip_folder(folder: Path, num_frames: int | None = None) -> LoadedNetwork:
    """Read a folder of transformers' `CLIPModel`, its frames averaged.

    Raises:
        CheckpointError: Each tensor that does not fit, or what of its description is not supported.
    """
    described = architecture_of(folder, "clip")
    config = described.model_copy(update={"num_frames": num_frames or described.num_frames})
    with torch.device("meta"):
        towers = assemble(config)
    shapes = {name: tuple(t.shape) for name, t in towers.state_dict().items()}
    tensors = {name.replace(*MISSPELT): t for name, t in tensors_of(folder).items()}
    weights = from_layout(
        tensors, shapes, "huggingface", str(folder), lambda name: name.replace(*MISSPELT[::-1])
    )
    towers.load_state_dict(weights, assign=True)
    inputs = inputs_of(folder, config, CLIP_PROCESSOR)
    net = VideoClip(towers.eval(), inputs, AVERAGED, f"CLIP {config.variant}")
    own_vocabulary = config.vocab_size != ModelConfig().vocab_size
    return LoadedNetwork(
        net.eval(),
        folder.name,
        str(folder),
        tokenizer=read_tokenizer(folder) if own_vocabulary else None,
        templates=TEMPLATES,
    )


def _mixing(form: Form, share: float) -> tuple[str, ...]:
    if not form.mixed or share:
        return ()
    return (
        "the published results are of weights mixed half and half with CLIP's: --clip-share 0.5",
    )


def _official(tensors: Mapping[str, Any], form: Form) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors under official names, and the names that the file has for these.

    What belongs to no part keeps a name that no network wants.
    """
    state, names = {}, {}
    for theirs, tensor in tensors.items():
        if theirs.removeprefix("model.").startswith(form.dropped):
            continue
        begins = next((p for p in form.prefixes if theirs.startswith(p)), None)
        if begins is None:
            ours = f"unknown {theirs}"
        else:
            ours = form.prefixes[begins] + theirs.removeprefix(begins)
        state[ours], names[ours] = tensor, theirs
    return state, names


def _in_the_file(ours: str, names: Mapping[str, str], form: Form) -> str:
    """Return what the file calls, or would call, a tensor."""
    if ours in names:
        return names[ours]
    fitting = [(official, p) for p, official in form.prefixes.items() if ours.startswith(official)]
    official, prefix = max(fitting, key=lambda pair: len(pair[0]))
    return prefix + ours.removeprefix(official)


def _clip_of_size(state: Mapping[str, Any], where: str) -> str:
    """Return OpenAI's CLIP of the size of these tensors."""
    patches, positions = state.get("visual.conv1.weight"), state.get("visual.positional_embedding")
    if isinstance(patches, Tensor) and isinstance(positions, Tensor) and patches.ndim == 4:
        side = math.isqrt(max(len(positions) - 1, 0)) * patches.shape[3]
        if source := CLIPS.get((patches.shape[0], patches.shape[3], side)):
            return source
    raise CheckpointError(
        f"{where} needs weights of the CLIP it was trained from, and OpenAI has none of its size: "
        f"name it with --clip ({OPEN_CLIP}MODEL/TAG, or a file)"
    )


def _read_clip(source: str) -> dict[str, Any]:
    if source.startswith(OPEN_CLIP):
        return open_clip_weights(source.removeprefix(OPEN_CLIP))[0]
    path = Path(source)
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickled(path)
