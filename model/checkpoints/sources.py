"""Published checkpoints in every form they come in, as one `Checkpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoints.architecture import config_from_state_dict
from model.checkpoints.clip_start import OPEN_CLIP, is_clip, open_clip_weights, start_from_clip
from model.checkpoints.errors import CheckpointError
from model.checkpoints.hub import download, is_hub_id
from model.checkpoints.huggingface import (
    architecture_of,
    inputs_of,
    odd_heads,
    read_safetensors,
    tensors_of,
)
from model.checkpoints.native import Checkpoint, network_of, read_tokenizer
from model.checkpoints.open_clip_networks import HUB, clip_weights, short_name
from model.checkpoints.open_clip_tokenizers import FOLDER
from model.checkpoints.pickled import read_pickled
from model.checkpoints.video_clips import form_of
from model.network.config import Activation, ModelConfig

# Scalars that only OpenAI's own networks carry, all of them trained with QuickGELU.
OPENAI_MARKS = {"input_resolution", "context_length", "vocab_size"}


@dataclass(frozen=True)
class StartOptions:
    """How to make an X-CLIP of plain CLIP; the rest of the sources need none of it."""

    num_frames: int | None = None
    seed: int = 0
    activation: Activation | None = None
    frame_average: bool = False


def read_foreign(source: str, options: StartOptions) -> Checkpoint:
    """Read a checkpoint that is not native; CheckpointError says what to do about it."""
    if source.startswith(OPEN_CLIP):
        state, activation = open_clip_weights(source.removeprefix(OPEN_CLIP))
        name = source.removeprefix(OPEN_CLIP).replace("/", "-")
        return _start(state, options.activation or activation, name, source, options)
    if source.startswith((HUB, FOLDER)):
        state, activation = clip_weights(source)
        return _start(state, activation, short_name(source), source, options)
    path = Path(source)
    if path.is_dir():
        return read_huggingface(path, path.name)
    if path.is_file():
        return _read_file(path, options)
    if is_hub_id(source):
        return read_huggingface(download(source), source)
    raise CheckpointError(
        f"{source} is no checkpoint: give a native or Hugging Face folder, a .pth or .pt file, a "
        f"hub id such as microsoft/xclip-base-patch32, or {OPEN_CLIP}ViT-B-16/openai"
    )


def read_huggingface(folder: Path, name: str) -> Checkpoint:
    """Read a folder of transformers' `XCLIPModel`, with the head counts of the original network."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json")
    config = architecture_of(folder)
    net = network_of(
        config, inputs_of(folder, config), tensors_of(folder), "huggingface", str(folder)
    )
    own_vocabulary = config.vocab_size != ModelConfig().vocab_size
    return Checkpoint(
        net,
        name=name.rsplit("/", 1)[-1],
        source=name,
        tokenizer=read_tokenizer(folder) if own_vocabulary else None,
        notes=odd_heads(folder, config),
    )


def _read_file(path: Path, options: StartOptions) -> Checkpoint:
    """Read an official `.pth`, or CLIP's tensors in a `.pt`, `.bin` or safetensors file."""
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_pickled(path)
    if form := form_of(state):
        raise CheckpointError(
            f"{path} is {form.name}, no X-CLIP: export and model.evaluate take it as it is"
        )
    if is_clip(state):
        openai: Activation | None = "quick_gelu" if state.keys() >= OPENAI_MARKS else None
        activation = options.activation or openai
        if activation is None:
            raise CheckpointError(
                f"{path} holds plain CLIP, and weights do not tell their activation: add "
                "--activation quick_gelu or gelu, whichever they were trained with"
            )
        return _start(state, activation, path.stem, str(path), options)
    activation = options.activation or "quick_gelu"
    config = config_from_state_dict(state, activation, where=str(path))
    net = network_of(config, None, state, "official", str(path))
    return Checkpoint(net, path.stem, str(path))


def _start(
    state: Mapping[str, Any],
    activation: Activation,
    name: str,
    source: str,
    options: StartOptions,
) -> Checkpoint:
    net, notes = start_from_clip(
        state,
        activation,
        source,
        num_frames=options.num_frames,
        seed=options.seed,
        frame_average=options.frame_average,
    )
    return Checkpoint(net.eval(), name, source, trained=options.frame_average, notes=notes)
