"""The network that a run starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from model.checkpoint import CheckpointError, read_checkpoint
from model.checkpoints.clip_start import with_parts
from model.inputs import InputSpec, Tokenizer
from model.network.initialise import TIME_TABLE_STD, build_xclip, table_of_sines
from model.network.mit import MultiframeIntegration
from model.network.xclip import XClip, assemble
from model.train.config import StartConfig
from model.train.errors import TrainError


@dataclass(frozen=True)
class InitialModel:
    """A network, the tokenizer of its text tower and whether that is its own, and its story.

    `templates` are the prompts that it was trained with so far.
    """

    net: XClip
    tokenizer: Tokenizer
    own_tokenizer: bool
    source: str
    notes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()


def make_initial_model(config: StartConfig, seed: int) -> InitialModel:
    """Load or build the network; TrainError says what is wrong with the source."""
    start = _from_scratch(config, seed) if config.source is None else _loaded(config, seed)
    if config.drop_path is None:
        return start
    net = _with_drop_path(start.net, config.drop_path)
    return replace(start, net=net)


def _loaded(config: StartConfig, seed: int) -> InitialModel:
    assert config.source is not None
    try:
        checkpoint = read_checkpoint(
            config.source, num_frames=config.frames, seed=seed, activation=config.activation
        )
    except CheckpointError as error:
        raise TrainError(f"start.source: {error.brief}") from None
    tokenizer = checkpoint.tokenizer or Tokenizer.clip()
    net, notes = checkpoint.net, checkpoint.notes
    if config.parts is not None:
        parts = config.parts.model_dump(exclude={"time_table_std"})
        had_table = net.config.mit_layers > 0
        net, note = with_parts(net, parts, seed)
        if isinstance(net.mit, MultiframeIntegration) and not had_table:
            scale = config.parts.time_table_std / TIME_TABLE_STD
            net.mit.positional_embedding.data.mul_(scale)
        notes = (*notes, note)
    source = checkpoint.source or checkpoint.name
    return InitialModel(
        net, tokenizer, checkpoint.tokenizer is not None, source, notes, checkpoint.templates
    )


def _from_scratch(config: StartConfig, seed: int) -> InitialModel:
    architecture = config.architecture
    assert architecture is not None
    merges = config.tokenizer_merges
    tokenizer = Tokenizer.clip() if merges is None else Tokenizer.truncated(merges)
    changes: dict[str, object] = {"vocab_size": tokenizer.vocab_size}
    if config.frames is not None:
        changes["num_frames"] = config.frames
    architecture = architecture.model_copy(update=changes)
    inputs = config.inputs or InputSpec.official(
        architecture.num_frames, architecture.image_size
    ).model_copy(update={"context_length": architecture.context_length})
    try:
        net = build_xclip(architecture, inputs=inputs, seed=seed)
    except ValueError as error:
        raise TrainError(f"start: {error}") from None
    if config.position_table == "sines":
        side = architecture.image_size // architecture.patch_size
        table = table_of_sines(side, architecture.vision_width)
        net.visual.positional_embedding.data[1:] = table
    return InitialModel(net, tokenizer, merges is not None, "trained from scratch")


def _with_drop_path(net: XClip, rate: float) -> XClip:
    """Return the same weights, shared, with another rate of stochastic depth."""
    with torch.device("meta"):
        other = assemble(net.config.model_copy(update={"drop_path": rate}), net.inputs)
    other.load_state_dict(dict(net.state_dict(keep_vars=True)), assign=True)
    return other
