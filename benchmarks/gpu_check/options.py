"""What the check is told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.timing import RESULTS
from model.command_line import Parser

PARTS = ("parity", "speed", "service", "training")
VARIANTS = (
    "xclip-base-patch32",
    "xclip-base-patch16",
    "xclip-base-patch16-32-frames",
    "xclip-large-patch14",
)
# The goals of speed are set for this one.
TIMED = "xclip-base-patch16"
PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Options:
    """As on the command line; `output` None writes nothing."""

    device: str = "cuda"
    parts: tuple[str, ...] = PARTS
    variants: tuple[str, ...] = VARIANTS
    timed: tuple[str, ...] = (TIMED,)
    precisions: tuple[str, ...] = PRECISIONS
    batches: tuple[int, ...] = (1, 8, 32, 64)
    rounds: int = 20
    clips: tuple[Path, ...] = ()
    clients: tuple[int, ...] = (1, 4, 16, 64)
    seconds: float = 6.0
    training_batch: int = 32
    training_seconds: float = 10.0
    output: Path | None = RESULTS


def read_options(arguments: Sequence[str]) -> Options:
    """Read the command line; argparse ends the program at a mistake."""
    default = Options()
    parser = Parser(
        prog="python -m benchmarks.gpu_check",
        description="Check every runtime, precision and variant on an NVIDIA GPU against torch "
        "in fp32, and measure. What is not installed is reported as not run.",
    )
    add = parser.add_argument
    add(
        "--device",
        choices=("cuda", "cpu"),
        default=default.device,
        help="cpu rehearses the same steps on the processor and writes nothing by itself",
    )
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="which parts (all)")
    add("--variants", nargs="+", metavar="NAME", help="networks (all four); --timed follows")
    add("--timed", nargs="+", metavar="NAME", help=f"networks that are timed ({TIMED})")
    add("--precisions", nargs="+", default=PRECISIONS, choices=(*PRECISIONS, "int8"))
    add("--batches", nargs="+", type=int, default=default.batches, help="clips at once")
    add("--rounds", type=int, default=default.rounds, help="timed runs of each, median counts")
    add("--clips", nargs="+", type=Path, default=(), metavar="FILE", help="videos to compare on")
    add("--clients", nargs="+", type=int, default=default.clients, help="of the service, at once")
    add("--seconds", type=float, default=default.seconds, help="of load at each level")
    add("--training-batch", type=int, default=default.training_batch, help="clips of an update")
    add("--training-seconds", type=float, default=default.training_seconds, help="of each clip")
    add("--output", type=Path, help="folder for gpu.json and gpu.md (docs/benchmarks)")
    given = parser.parse_args(arguments)
    variants = tuple(given.variants or VARIANTS)
    _check_names(parser, (*variants, *(given.timed or ())))
    for clip in given.clips:
        if not clip.is_file():
            parser.error(f"--clips: there is no file {clip}")
    timed = given.timed or ([TIMED] if TIMED in variants else variants)
    unwritten = None if given.device == "cpu" else RESULTS
    return Options(
        device=given.device,
        parts=tuple(given.parts),
        variants=variants,
        timed=tuple(timed),
        precisions=tuple(given.precisions),
        batches=tuple(sorted(given.batches)),
        rounds=given.rounds,
        clips=tuple(given.clips),
        clients=tuple(given.clients),
        seconds=given.seconds,
        training_batch=given.training_batch,
        training_seconds=given.training_seconds,
        output=given.output or unwritten,
    )


def _check_names(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    try:
        from model.network.config import VARIANTS as KNOWN
    except ImportError:  # then no network runs, and the report says why
        return
    unknown = sorted(set(names) - set(KNOWN))
    if unknown:
        parser.error(f"no variant {', '.join(unknown)}; there are: {', '.join(KNOWN)}")
