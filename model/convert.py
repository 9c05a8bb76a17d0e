"""python -m model.convert SOURCE --output DIR: any published checkpoint to a native one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.checkpoint import Checkpoint, CheckpointError, read_checkpoint, save_checkpoint
from model.sources import variant_of


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m model.convert",
        description="Turn a published checkpoint into a native one "
        "(config.json and model.safetensors).",
    )
    p.add_argument(
        "source",
        help="official .pth, Hugging Face folder or hub id (microsoft/xclip-base-patch32), "
        "OpenAI CLIP .pt, or open_clip:MODEL/TAG",
    )
    p.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    p.add_argument("--name", help="name of the model (default: the source's)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    p.add_argument("--seed", type=int, default=0, help="for parts that CLIP does not have")
    return p


def describe(checkpoint: Checkpoint) -> Table:
    """What was found in the source."""
    net, config = checkpoint.net, checkpoint.net.config
    table = Table(show_header=False, box=None)
    rows = {
        "architecture": variant_of(config) or "not a published one",
        "frames": f"{config.num_frames} of {config.image_size}×{config.image_size}",
        "vision": f"patch {config.patch_size}, width {config.vision_width}, "
        f"{config.vision_layers} layers, {config.vision_width // 64} heads",
        "text": f"width {config.text_width}, {config.text_layers} layers, "
        f"{config.text_width // 64} heads, {config.vocab_size} tokens",
        "joint": f"width {config.embed_dim}, {config.embed_dim // 64} heads, "
        f"{config.mit_layers} integration and {config.prompt_layers} prompt layers",
        "activation": config.activation,
        "resize": f"short side {net.inputs.resize_short_side}, {net.inputs.resize_rule}",
        "parameters": f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M",
    }
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 with one line on a mistake."""
    options = parser().parse_args(arguments)
    try:
        if options.output.exists() and any(options.output.iterdir()) and not options.overwrite:
            raise CheckpointError(
                f"{options.output} is not empty: choose another folder or add --overwrite"
            )
        checkpoint = read_checkpoint(options.source, seed=options.seed)
        save_checkpoint(
            checkpoint.net,
            options.output,
            tokenizer=checkpoint.tokenizer,
            name=options.name or checkpoint.name,
            source=checkpoint.source,
            trained=checkpoint.trained,
            overwrite=options.overwrite,
        )
    except (CheckpointError, OSError) as error:
        print(f"model.convert: {error}", file=sys.stderr)
        return 1
    console = Console()
    console.print(describe(checkpoint))
    for note in checkpoint.notes:
        console.print(f"note: {note}")
    console.print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
