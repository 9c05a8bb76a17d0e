"""The command line: `python -m export CHECKPOINT …`, `… verify …`, `… inspect …`, `… triton …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from export.bundle import BundleError, open_bundle
from export.bundle.writing import check_output
from export.errors import ExportError
from export.limits import limits_text
from export.report import print_bundle, print_parity
from export.runtime import RuntimeUnavailableError
from model.checkpoints.templates import TEMPLATE_NAMES, chosen_templates
from model.command_line import Parser, complaint, share, whole
from model.progress import Steps

if TYPE_CHECKING:
    from model.checkpoints.loaded import LoadedNetwork

PROGRAM = "python -m export"
SOURCES = (
    "anything `python -m model.convert` takes; a network of open_clip as it is: hf-hub:ORG/NAME, "
    "local-dir:FOLDER, open_clip:MODEL/TAG; a file of ViFi-CLIP, Open-VCLIP or FROSTER"
)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
EXAMPLES = """\
other commands:
  python -m export verify BUNDLE CHECKPOINT    compare a bundle with its checkpoint again
  python -m export inspect BUNDLE              what is inside a bundle
  python -m export triton BUNDLE --output REPO a model repository for Triton

examples:
  python -m export k400_32_8.pth --output bundles/b32 --labels kinetics400.csv
  python -m export hf-hub:timm/PE-Core-B-16 --output bundles/pe-b16 --labels kinetics400.csv
  python -m export my-checkpoint --output bundles/gpu --precision fp16 fp32 --tensorrt
  python -m export my-checkpoint --output bundles/fast --precision bf16 int8 fp32 --clips *.mp4
"""


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit status."""
    commands = {"verify": _verify, "inspect": _inspect, "triton": _triton}
    program = PROGRAM
    try:
        if argv and argv[0] in commands:
            program = f"{PROGRAM} {argv[0]}"
            return commands[argv[0]](argv[1:])
        return _export(argv)
    except (BundleError, ExportError, RuntimeUnavailableError, ValueError, OSError) as error:
        print(complaint(program, error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(complaint(program, "interrupted; nothing was written"), file=sys.stderr)
        return 130


def _export(argv: Sequence[str]) -> int:
    options = _export_parser().parse_args(argv)
    check_output(options.output, overwrite=options.overwrite)
    # Torch comes in here, so that --help, inspect and typing mistakes answer at once.
    from export.build import BundleOptions, make_bundle

    steps = Steps()
    checkpoint = _read(options, steps)
    bundle = make_bundle(
        checkpoint,
        options.output,
        BundleOptions(
            label_files=tuple(options.labels),
            precisions=tuple(dict.fromkeys(options.precision)),
            clips=tuple(options.clips),
            calibration=tuple(options.calibrate),
            tensorrt=options.tensorrt,
            timing_cache=options.timing_cache,
            overwrite=options.overwrite,
            force=options.force,
            templates=chosen_templates(options.templates, options.template),
        ),
        steps,
    )
    console = Console()
    for build in bundle.manifest.precisions:
        for parity in build.parity:
            print_parity(parity, console)
    made = f"{bundle.path} is made: {bundle.manifest.name}, sha256:{bundle.hash}"
    console.print(made, soft_wrap=True, highlight=False)
    for note in checkpoint.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _export_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Turn a checkpoint into a bundle that the service runs, compared with torch.",
        epilog=f"{EXAMPLES}\nlimits against torch, above which nothing is made:\n{limits_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help=SOURCES)
    add("--output", required=True, type=Path, metavar="BUNDLE", help="folder to make")
    add(
        "--labels",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.csv",
        help="store this label list (header id,name) under its file name; repeatable",
    )
    add(
        "--precision",
        nargs="+",
        default=["fp32"],
        choices=PRECISIONS,
        help="what the video encoder may run in; the first is the default (default: fp32)",
    )
    _add_network(parser)
    _add_clips(parser)
    add(
        "--calibrate",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="PATH",
        help="also make an int8 for OpenVINO, its ranges measured on these videos (a few dozen)",
    )
    add("--tensorrt", action="store_true", help="also build TensorRT engines for this GPU")
    add(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="where TensorRT keeps what it has timed, so that the next export is faster",
    )
    add(
        "--template",
        action="append",
        metavar="TEXT",
        help="text around a label, with one {}, instead of what the network was trained with; {} "
        "alone is the bare label; repeatable: the mean of several",
    )
    add(
        "--templates",
        choices=TEMPLATE_NAMES,
        help="the same with a published list: kinetics28 is CLIP's for Kinetics, ucf48 its list "
        "for UCF101 and HMDB51, imagenet80 that for ImageNet; a new label takes as many times "
        "as long",
    )
    add("--overwrite", action="store_true", help="replace a bundle that is there already")
    add("--force", action="store_true", help="accept what is too far from torch; it is recorded")
    return parser


def _verify(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROGRAM} verify",
        description="Compare a bundle with its checkpoint: every precision on every runtime here.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=SOURCES)
    _add_network(parser)
    _add_clips(parser)
    options = parser.parse_args(argv)
    bundle = open_bundle(options.bundle)

    from export.verify import verify_bundle

    steps = Steps()
    checkpoint = _read(options, steps)
    measured = verify_bundle(bundle, checkpoint.net, tuple(options.clips), steps)
    for parity in measured:
        print_parity(parity, Console())
    return 0 if measured and all(parity.passed for parity in measured) else 1


def _inspect(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} inspect", description="Show what is inside a bundle.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    print_bundle(open_bundle(parser.parse_args(argv).bundle), Console())
    return 0


def _triton(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROGRAM} triton",
        description="Write a model repository for Triton Inference Server and its ONNX Runtime: a "
        "folder for each graph, with config.pbtxt.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--output", required=True, type=Path, metavar="REPO", help="folder to make")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of the bundle's (default: the bundle's default)"
    )
    options = parser.parse_args(argv)
    from export.triton import write_repository

    bundle = open_bundle(options.bundle)
    print(f"{write_repository(bundle, options.output, options.precision)} is made")
    return 0


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what decides how a source becomes a network."""
    add = parser.add_argument
    add(
        "--pooling",
        choices=("mean", "tokens"),
        default="mean",
        help="of a network of open_clip: average the vectors of the frames (default), or let the "
        "pooler of a CoCa read the tokens of all frames at once",
    )
    add("--frames", type=whole(1), metavar="T", help="frames of a clip (the source's own, or 8)")
    add(
        "--clip",
        metavar="SOURCE",
        help="CLIP that a file of ViFi-CLIP or Open-VCLIP was trained from: open_clip:MODEL/TAG or "
        "a file (default: OpenAI's of the same size)",
    )
    add(
        "--clip-share",
        type=share,
        metavar="R",
        help="mix R times CLIP's weights into those of Open-VCLIP; published with 0.5 (0)",
    )


def _read(options: argparse.Namespace, steps: Steps) -> LoadedNetwork:
    """Load the network that the options name."""
    from model.checkpoint import ClipShare, read_network

    given = options.clip is not None or options.clip_share is not None
    clip = ClipShare(options.clip, options.clip_share or 0.0) if given else None
    with steps.step(f"Loading {options.checkpoint}"):
        return read_network(
            options.checkpoint, pooling=options.pooling, num_frames=options.frames, clip=clip
        )


def _add_clips(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clips",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="PATH",
        help="compare on these videos (default: three that are made on the spot)",
    )
