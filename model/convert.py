"""python -m model.convert SOURCE --output DIR: any published checkpoint to a native one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model.command_line import Parser, complaint

PROGRAM = "python -m model.convert"
EXAMPLES = """examples:
  python -m model.convert k400_32_8.pth --output checkpoints/b32
  python -m model.convert microsoft/xclip-base-patch32 --output checkpoints/b32
  python -m model.convert open_clip:ViT-B-16/openai --frames 8 --output checkpoints/start
"""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Turn a published checkpoint into a native one: a folder with config.json and "
        "model.safetensors, which training, evaluation and export take.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "source",
        metavar="SOURCE",
        help="official .pth; Hugging Face folder or hub id; open_clip:MODEL/TAG",
    )
    p.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    p.add_argument("--name", help="name of the model (default: the source's)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    p.add_argument(
        "--frames", type=int, metavar="T", help="frames of each clip (default: the source's, or 8)"
    )
    p.add_argument(
        "--activation",
        choices=["quick_gelu", "gelu"],
        help="of a file of plain CLIP, which does not tell",
    )
    p.add_argument("--seed", type=int, default=0, help="for what plain CLIP does not have")
    p.add_argument(
        "--frame-average",
        action="store_true",
        help="leave plain CLIP as it is and average its frames, instead of starting an X-CLIP",
    )
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 with one line on a mistake."""
    options = parser().parse_args(arguments)
    # Torch comes in here, so that --help and typing mistakes answer at once.
    from rich.console import Console
    from rich.text import Text

    from model.checkpoints.errors import CheckpointError
    from model.conversion import convert, describe

    try:
        checkpoint = convert(options)
    except CheckpointError as error:
        print(complaint(PROGRAM, error.brief), file=sys.stderr)
        return 1
    except OSError as error:
        reason = f"{options.output} cannot be written: {error.strerror or error}"
        print(complaint(PROGRAM, reason), file=sys.stderr)
        return 1
    console = Console(soft_wrap=True)
    console.print(describe(checkpoint))
    for note in checkpoint.notes:
        console.print(Text(f"note: {note}"))
    console.print(Text(f"written to {options.output}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
