"""Draw a set of moving shapes.

python -m model.data.shapes OUT --clips 6000 --seed 0
python -m model.data.shapes OUT --new-shapes 8      # five shapes that the demo does not know
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from model.command_line import Parser, one_line
from model.data.shapes.backgrounds import find_pictures
from model.data.shapes.dataset import ShapesOptions, make_dataset, make_new_shapes
from model.data.shapes.scene import SceneOptions
from model.progress import progress

NEW_VAL = 20


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit status."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        options = _options(given)
        if given.new_shapes:
            _draw_new(given, options)
        else:
            _draw(given.output, options, given.workers)
    except (ValueError, OSError) as error:
        print(f"model.data.shapes: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m model.data.shapes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("output", type=Path, help="folder for the clips and tables")
    parser.add_argument("--clips", type=int, default=1000, help="training clips (1000)")
    parser.add_argument("--val-clips", type=int, default=200, help="of seen combinations (200)")
    parser.add_argument("--unseen-clips", type=int, default=300, help="of unseen ones (300)")
    parser.add_argument("--place-clips", type=int, default=0, help="of things at rest (0)")
    parser.add_argument("--turn-clips", type=int, default=0, help="more of things that turn (0)")
    parser.add_argument(
        "--new-shapes",
        type=int,
        default=0,
        metavar="N",
        help="instead: N training and 20 validation clips of each of five other shapes",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips (0)")
    parser.add_argument("--pictures", type=Path, help="folder of photographs for backgrounds")
    parser.add_argument("--largest", type=int, default=256, help="largest short side (256)")
    parser.add_argument("--h264-only", action="store_true", help="no other codecs than H.264")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    return parser


def _options(given: argparse.Namespace) -> ShapesOptions:
    numbers = (
        "clips",
        "val_clips",
        "unseen_clips",
        "place_clips",
        "turn_clips",
        "new_shapes",
        "seed",
    )
    for name in numbers:
        if getattr(given, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must not be negative")
    if given.largest < 64:
        raise ValueError(f"--largest must be 64 or more, not {given.largest}")
    pictures = find_pictures(given.pictures) if given.pictures else ()
    return ShapesOptions(
        clips=given.clips,
        val_clips=given.val_clips,
        unseen_clips=given.unseen_clips,
        place_clips=given.place_clips,
        turn_clips=given.turn_clips,
        seed=given.seed,
        scenes=SceneOptions(short_side=(64, given.largest), pictures=pictures),
        h264_only=given.h264_only,
    )


def _draw_new(given: argparse.Namespace, options: ShapesOptions) -> None:
    make_new_shapes(given.output, given.new_shapes, NEW_VAL, options.seed, options.scenes)
    print(f"{given.output}: clips of new shapes, tables train.csv, val.csv, labels.csv")


def _draw(output: Path, options: ShapesOptions, workers: int) -> None:
    moving = options.clips + options.val_clips + options.unseen_clips
    total = moving + options.place_clips + options.turn_clips
    with progress("drawing clips", total) as on_clip:
        make_dataset(output, options, workers=workers, on_clip=on_clip)
    print(f"{output}: {total} clips, tables train.csv, val.csv, unseen.csv, wordings.csv")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
