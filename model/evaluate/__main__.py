"""`python -m model.evaluate CHECKPOINT --protocol NAME --list … --labels …`, `… compare …`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from model.command_line import Parser, complaint, new_file, share, sleep_while_waiting, whole
from model.evaluate.comparison.command import main as compare
from model.evaluate.paper import DATASETS, PROTOCOLS
from model.inputs.sampling import FrameRule

PROGRAM = "python -m model.evaluate"
EXAMPLES = """\
another command:
  python -m model.evaluate compare SOURCE…     several networks on the same clips, side by side

examples:
  python -m model.evaluate k400_32_8.pth --protocol supervised --dataset k400 \\
      --list k400/val.txt --labels k400/labels.csv --root k400/videos
  python -m model.evaluate zero.pth --protocol zero-shot --dataset hmdb51 --root hmdb51 \\
      --list split1.txt split2.txt split3.txt --labels hmdb51.csv
  python -m model.evaluate runs/s1/checkpoint runs/s2/checkpoint runs/s3/checkpoint \\
      --protocol base-to-novel --root ucf101 --list base.txt novel.txt --labels base.csv novel.csv
  python -m model.evaluate hf-hub:timm/PE-Core-B-16 --protocol supervised --list val.csv
  python -m model.evaluate --bundle bundles/b32 --precision int8 --protocol supervised …
"""


TEMPLATE = """text around a label, with one {} (what the network was trained with; {} alone is the
bare label); repeatable: the mean of several"""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Accuracy of a network or a bundle by the paper's protocols.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("checkpoints", nargs="*", metavar="CHECKPOINT", help="what `export` takes; the seeds")
    add("--bundle", type=Path, help="measure a bundle instead")
    add("--runtime", default="auto", help="of the bundle (auto)")
    add("--precision", help="of the bundle, or fp32, bf16, fp16 of a checkpoint")
    add("--protocol", required=True, choices=PROTOCOLS)
    add("--list", nargs="+", type=Path, required=True, dest="lists", help="one for each split")
    add("--labels", nargs="+", type=Path, default=[], help="one for all lists, or one for each")
    add("--root", type=Path, help="folder or .tar that the paths start from")
    add("--dataset", choices=DATASETS, help="to print the paper's figure beside ours")
    add("--shots", type=whole(1), help="training clips a class, for the paper's figure")
    add("--views", type=whole(1), help="views in time, if not the protocol's")
    add("--crops", type=int, choices=(1, 3), help="crops in space, if not the protocol's")
    add("--template", action="append", metavar="TEXT", help=TEMPLATE)
    add("--frames", type=whole(1), help="frames of a clip, if not the checkpoint's")
    add(
        "--frame-rule",
        type=FrameRule,
        choices=list(FrameRule),
        default=FrameRule.EXACT,
        help="frames of a clip that are cheap to decode, or the published ones (exact)",
    )
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--max-broken", type=share, default=0.01, help="share of clips that may be broken (0.01)")
    add("--batch", type=whole(1), default=8, help="views that go through together (8)")
    add("--workers", type=whole(0), default=2, help="decoding processes (2)")
    add("--json", type=new_file, metavar="FILE", help="also write the figures here, by class")
    add(
        "--output",
        type=new_file,
        metavar="FILE",
        help="also write a row for each clip here: what it is, what it was taken for, with which "
        "score (.csv or .json)",
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 with one line on a mistake."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["compare"]:
        return compare(arguments[1:])
    options = parser().parse_args(arguments)
    sleep_while_waiting()
    try:
        # Torch comes in here, so that --help and typing mistakes answer at once.
        from model.evaluate.command import measure
        from model.evaluate.details import write_clips
        from model.evaluate.report import as_json, print_result

        measured = measure(options)
        print_result(measured)
        if options.json:
            text = json.dumps(as_json(measured, arguments), indent=1)
            options.json.write_text(text + "\n", encoding="utf-8")
        if options.output:
            parts = measured.result.parts
            write_clips(options.output, [clip for part in parts for clip in part.per_clip])
    except (ValueError, OSError) as error:
        print(complaint(PROGRAM, error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
