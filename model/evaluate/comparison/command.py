"""`python -m model.evaluate compare SOURCE… --list clips.csv`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoints.templates import TEMPLATE_NAMES, chosen_templates
from model.command_line import Parser, complaint, new_file, sleep_while_waiting, whole
from model.files import cache_folder
from model.inputs.sampling import FrameRule

if TYPE_CHECKING:
    from model.evaluate.comparison.run import Comparison

PROGRAM = "python -m model.evaluate compare"
EXAMPLES = """\
examples:
  python -m model.evaluate compare bundles/b32 hf-hub:timm/PE-Core-B-16 --list clips.csv
  python -m model.evaluate compare a b c --list paths.txt --labels labels.csv --picture abc.png

A list without labels (a column path alone, or a path to a line) needs --labels; the networks are
then compared with each other.
"""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Ask several networks or bundles about the same clips.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="a bundle, or what `export` takes")
    add("--list", required=True, type=Path, dest="clips", help="path,label; or paths alone")
    add("--labels", type=Path, metavar="FILE", help="the labels to ask (CSV: id,name)")
    add("--root", type=Path, help="folder or .tar that the paths start from")
    add(
        "--template",
        action="append",
        metavar="TEXT",
        help="text around a label, with one {}, for all networks; each has its own otherwise",
    )
    add("--templates", choices=TEMPLATE_NAMES, help="the same with a published list")
    add("--frame-rule", type=FrameRule, choices=list(FrameRule), default=FrameRule.EXACT)
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="of checkpoints (auto)")
    add("--workers", type=whole(0), default=2, help="decoding processes (2)")
    add(
        "--frames-in",
        type=Path,
        metavar="FOLDER",
        help="keep decoded frames here, so that no run decodes a clip again; without it they lie "
        "in the cache folder until a run has come to its end",
    )
    add("--json", type=new_file, metavar="FILE", help="also write everything here, by clip")
    add("--picture", type=new_file, metavar="FILE", help="also draw it (.png, .svg, .pdf)")
    return p


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 with one line on a mistake."""
    options = parser().parse_args(arguments)
    sleep_while_waiting()
    try:
        # Torch comes in here, so that --help and typing mistakes answer at once.
        from rich.console import Console

        from model.evaluate.comparison.report import as_json, print_comparison

        with _compared(options) as comparison:
            print_comparison(comparison, Console(soft_wrap=True, highlight=False))
            if options.json:
                text = json.dumps(as_json(comparison, arguments), indent=1, ensure_ascii=False)
                options.json.write_text(text + "\n", encoding="utf-8")
            if options.picture:
                from model.evaluate.comparison.picture import draw

                draw(comparison, options.picture)
    except (ValueError, OSError) as error:
        print(complaint(PROGRAM, error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            complaint(PROGRAM, "interrupted; decoded frames are kept: run it again to go on"),
            file=sys.stderr,
        )
        return 130
    return 0


@contextmanager
def _compared(options: argparse.Namespace) -> Iterator[Comparison]:
    """Compare; frames that no folder was named for are cleared once all is told."""
    from model.data.config import DataConfig
    from model.data.lists.cliplist import read_clips
    from model.data.lists.labels import read_labels
    from model.evaluate.comparison.answers import Contender
    from model.evaluate.comparison.frames import KeptFrames
    from model.evaluate.comparison.run import compare
    from model.evaluate.errors import EvaluateError
    from model.progress import Steps

    templates = chosen_templates(options.templates, options.template)
    labels = read_labels(options.labels) if options.labels else None
    clips = read_clips([options.clips], options.root, labels, unlabelled=True)
    if 0 < clips.unlabelled < len(clips):
        raise EvaluateError(
            f"{options.clips}: {clips.unlabelled} of {len(clips)} clips have no label: label all "
            "of them, or none"
        )
    contenders = [Contender(s, options.device, templates) for s in options.sources]
    kept = KeptFrames(options.frames_in or cache_folder() / "frames", clips, options.frame_rule)
    data = DataConfig(workers=options.workers)
    with nullcontext() if options.frames_in else kept.in_use():
        labelled = not clips.unlabelled
        comparison = compare(contenders, clips, kept, data, Steps(), labelled=labelled)
        yield comparison
    if not options.frames_in:
        kept.clear([entry.facts.inputs for entry in comparison.entries])
