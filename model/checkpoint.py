"""Checkpoints: what can be loaded, and our own form of saving.

A native checkpoint is a folder (see `model.checkpoints.native`); every published form loads as
well (see `model.checkpoints.sources`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoints.errors import CheckpointError
from model.checkpoints.huggingface import model_type_of
from model.checkpoints.licences import licence_of
from model.checkpoints.loaded import LoadedNetwork
from model.checkpoints.native import Checkpoint, is_native, read_native, save_checkpoint
from model.checkpoints.open_clip_networks import SCHEMES, read_open_clip
from model.checkpoints.pickled import read_pickled
from model.checkpoints.sources import StartOptions, read_foreign
from model.checkpoints.video_clips import (
    ClipShare,
    Form,
    form_of,
    read_clip_folder,
    read_video_clip,
)
from model.network.config import Activation
from model.network.frame_pooling import Pooling
from model.network.mit import MultiframeIntegration, resample_time_positions
from model.network.xclip import XClip, assemble

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ClipShare",
    "LoadedNetwork",
    "load_checkpoint",
    "read_checkpoint",
    "read_network",
    "resample_frames",
    "save_checkpoint",
]


def read_checkpoint(
    source: str | os.PathLike[str],
    *,
    num_frames: int | None = None,
    seed: int = 0,
    activation: Activation | None = None,
    frame_average: bool = False,
) -> Checkpoint:
    """Read any supported source, with where it comes from; see `load_checkpoint`.

    `num_frames` is the number of frames of a network made from CLIP; other sources have their own,
    and their time table is resampled where it differs. `seed` decides the first values of what
    CLIP does not have. `activation` is for files of plain CLIP, which do not tell, and overrides
    what is known of others. `frame_average` leaves plain CLIP as it is, its frames averaged.
    """
    path = Path(source)
    if path.is_dir() and is_native(path):
        checkpoint = read_native(path)
    else:
        options = StartOptions(num_frames, seed, activation, frame_average)
        checkpoint = read_foreign(os.fspath(source), options)
    own = checkpoint.net.config.num_frames
    if num_frames in (None, own):
        return checkpoint
    net = resample_frames(checkpoint.net, num_frames)
    if not isinstance(net.mit, MultiframeIntegration):
        return replace(checkpoint, net=net)
    note = f"time table resampled from {own} to {num_frames} frames: fine-tune before use"
    return replace(checkpoint, net=net, notes=(*checkpoint.notes, note))


def load_checkpoint(source: str | os.PathLike[str], *, num_frames: int | None = None) -> XClip:
    """Load an X-CLIP from any supported source.

    Args:
        source: A native folder, official `.pth`, Hugging Face folder or hub id. Also a start for
            fine-tuning: plain CLIP as `open_clip:MODEL/TAG`, `hf-hub:ORG/NAME` or
            `local-dir:FOLDER`, whose missing parts get their published first values.
        num_frames: Frames T of a clip; where the source has others its time table is resampled.

    Returns:
        The network in fp32 on the processor, in eval mode. It takes frames float32 (B,T,3,H,W),
        normalised as `net.inputs` says, and token ids int64 (K,L).

    Raises:
        CheckpointError: What is wrong with the source; every tensor that does not fit is named.
    """
    return read_checkpoint(source, num_frames=num_frames).net


def resample_frames(net: XClip, num_frames: int) -> XClip:
    """Share the weights with a network for another number of frames; resample its time table."""
    if num_frames == net.config.num_frames:
        return net
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
    weights = dict(net.state_dict(keep_vars=True))
    if isinstance(net.mit, MultiframeIntegration):
        table = weights["mit.positional_embedding"].detach()
        weights["mit.positional_embedding"] = resample_time_positions(table, num_frames)
    changed = {"num_frames": num_frames}
    with torch.device("meta"):
        other = assemble(
            net.config.model_copy(update=changed), net.inputs.model_copy(update=changed)
        )
    other.load_state_dict(weights, assign=True)
    return other.train(net.training)


def read_network(
    source: str | os.PathLike[str],
    *,
    pooling: Pooling = "mean",
    num_frames: int | None = None,
    clip: ClipShare | None = None,
) -> LoadedNetwork:
    """Read what can be served: any X-CLIP, or another network of clips and texts.

    Args:
        source: What `read_checkpoint` takes; `hf-hub:ORG/NAME`, `local-dir:FOLDER` or
            `open_clip:MODEL/TAG`, which are taken as they are; a file of ViFi-CLIP, Open-VCLIP or
            FROSTER; a folder of transformers' CLIP.
        pooling: How frames become one vector, for networks of open_clip.
        num_frames: Frames T of a clip; None takes the source's own, or 8.
        clip: The CLIP that a file of ViFi-CLIP or Open-VCLIP was trained from, and its share.

    Raises:
        CheckpointError: What is wrong with the source.
    """
    loaded = _read_network(os.fspath(source), pooling, num_frames, clip)
    return loaded if loaded.licence else replace(loaded, licence=licence_of(loaded.source))


def _read_network(
    name: str, pooling: Pooling, num_frames: int | None, clip: ClipShare | None
) -> LoadedNetwork:
    video_clip = None if name.startswith(SCHEMES) else _video_clip(Path(name))
    if clip is not None and video_clip is None:
        raise CheckpointError(f"{name} takes no other CLIP: leave --clip and --clip-share out")
    if name.startswith(SCHEMES):
        return read_open_clip(name, pooling=pooling, num_frames=num_frames)
    if pooling != "mean":
        raise CheckpointError(f"{name} has its own pooling over time: leave --pooling out")
    if video_clip is not None:
        tensors, form = video_clip
        return read_video_clip(Path(name), tensors, form, clip or ClipShare(), num_frames)
    path = Path(name)
    if path.is_dir() and model_type_of(path) == "clip":
        return read_clip_folder(path, num_frames)
    return read_checkpoint(name, num_frames=num_frames)


def _video_clip(path: Path) -> tuple[Mapping[str, Any], Form] | None:
    """Return the tensors of a file of CLIP's descendants for videos and its layout, else None."""
    if not path.is_file() or path.suffix == ".safetensors":
        return None
    tensors = read_pickled(path)
    form = form_of(tensors)
    return None if form is None else (tensors, form)
