"""Read any published checkpoint, write it as a native one, and show what was found in it."""

from __future__ import annotations

import argparse

import torch
from rich.table import Table
from rich.text import Text

from model.checkpoint import Checkpoint, CheckpointError, read_checkpoint, save_checkpoint
from model.checkpoints.architecture import variant_of
from model.checkpoints.native import check_target
from model.checkpoints.weights import rule_for
from model.network.config import HEAD_WIDTH


def describe(checkpoint: Checkpoint) -> Table:
    """Show what was found in the source."""
    net, config = checkpoint.net, checkpoint.net.config

    def tower(width: int, layers: int) -> str:
        return f"{layers} layers, width {width}, {width // HEAD_WIDTH} heads" if layers else "none"

    rows = {
        "name": checkpoint.name,
        "architecture": variant_of(config) or "none of the published ones",
        "clip": f"{config.num_frames} frames of {config.image_size} × {config.image_size} pixels, "
        f"patch {config.patch_size}",
        "vision": tower(config.vision_width, config.vision_layers)
        + (", cross-frame messages" if config.cross_frame_messages else ""),
        "text": tower(config.text_width, config.text_layers) + f", {config.vocab_size} tokens",
        "integration": tower(config.embed_dim, config.mit_layers)
        if config.mit_layers
        else "mean of the frames",
        "video-specific prompts": tower(config.embed_dim, config.prompt_layers)
        if config.prompt_layers
        else "none",
        "activation": config.activation,
        "prompts of labels": ", ".join(checkpoint.templates) or "the bare label",
        "resize": f"short side to {net.inputs.resize_short_side}, {net.inputs.resize_rule}",
        "parameters": f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} million",
        "trained": "yes" if checkpoint.trained else "no: a start for training",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        table.add_row(Text(key), Text(value))
    return table


def refuse_broken_values(checkpoint: Checkpoint, source: str) -> None:
    """Refuse weights that no training wants to have left behind: NaN and infinity."""
    broken = [
        f"{name} has values that are not finite"
        for ours, tensor in checkpoint.net.state_dict().items()
        if not torch.isfinite(tensor).all()
        for name in rule_for(ours, "official").foreign
    ]
    if broken:
        raise CheckpointError(f"{source}: {'; '.join(broken)}", broken)


def convert(options: argparse.Namespace) -> Checkpoint:
    """Read the source and write the folder; CheckpointError and OSError say what went wrong."""
    check_target(options.output, overwrite=options.overwrite)
    if options.frames is not None and options.frames < 1:
        raise CheckpointError(f"--frames must be 1 or more, not {options.frames}")
    checkpoint = read_checkpoint(
        options.source,
        num_frames=options.frames,
        seed=options.seed,
        activation=options.activation,
        frame_average=options.frame_average,
    )
    refuse_broken_values(checkpoint, options.source)
    save_checkpoint(
        checkpoint.net,
        options.output,
        tokenizer=checkpoint.tokenizer,
        name=options.name or checkpoint.name,
        source=checkpoint.source,
        trained=checkpoint.trained,
        templates=checkpoint.templates,
        overwrite=options.overwrite,
    )
    return checkpoint
