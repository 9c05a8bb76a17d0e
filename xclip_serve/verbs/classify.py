"""`xclip-serve classify CLIP LABEL…`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.command_line import Parser, whole
from xclip_serve.verbs.asking import (
    DONE,
    add_clip_question,
    add_question,
    asked,
    failures_told,
    labels_of,
    options_of,
)

if TYPE_CHECKING:
    from service.contract.answer import Classification, Explanation

PROGRAM = "xclip-serve classify"
BAR_WIDTH = 30
NONE_OF_THESE = "(none of these)"
EXAMPLES = """\
examples:
  xclip-serve classify docs/clip.mp4 "a red circle moving left" "a red circle moving right"
  xclip-serve classify clip.mp4 --labels kinetics400.csv --model bundles/b32 --top-k 5
  xclip-serve classify clip.mp4 dancing juggling --server http://127.0.0.1:8000 --json
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Rank labels for a clip. Exit status: 0; 2 for a mistake in the question; "
        "3 where the clip cannot be used.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("clip", metavar="CLIP", help="video file; - reads standard input")
    p.add_argument("texts", metavar="LABEL", nargs="*", help="what may be seen in it")
    add_question(p)
    add_clip_question(p)
    p.add_argument("--top-k", type=whole(1), metavar="N", help="only the best (default: all)")
    p.add_argument(
        "--explain",
        action="store_const",
        const="frames",
        help="also say what each frame adds to the best label, and whether their order matters",
    )
    p.add_argument("--json", action="store_true", help="print the answer as the API gives it")
    return p


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_intermixed_args(arguments)
    with failures_told(PROGRAM) as failure:
        labels, options = labels_of(given), options_of(given)
        video = sys.stdin.buffer if given.clip == "-" else given.clip
        with asked(given, decode_workers=1) as ask:
            answer = labels.named(ask.classify(video, labels.texts, **options))
    if failure.status is not None:
        return failure.status
    if given.json:
        print(answer.model_dump_json())
    else:
        _show(answer)
    return DONE


def _show(answer: Classification) -> None:
    """Print a table with bars on a terminal, score and label with a tab between elsewhere."""
    for warning in answer.warnings:
        print(f"note: {warning}", file=sys.stderr)
    if answer.explanation is not None:
        _show_explanation(answer.explanation)
    if answer.label_set is not None:
        print(f"label set: {', '.join(answer.label_set) or 'no label'}", file=sys.stderr)
    if not sys.stdout.isatty():
        for share, label in _shares(answer):
            print(f"{share:.4f}\t{label}")
        return
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for share, label in _shares(answer):
        bar = Bar(1.0, 0, share, width=BAR_WIDTH)
        table.add_row(Text(f"{100 * share:5.1f} %"), bar, Text(label))
    Console().print(table)


def _show_explanation(explanation: Explanation) -> None:
    """Print how much lower the best logit is without each frame, on standard error."""
    print(f"without a frame, the logit of {explanation.label!r} is lower by:", file=sys.stderr)
    for frame in explanation.frames:
        print(f"  {frame.time_s:8.2f} s  {frame.change:+.3f}", file=sys.stderr)
    backwards = explanation.reversed
    print(
        f"backwards: {backwards.label} ({backwards.score:.1%}); lower by {backwards.change:+.3f}",
        file=sys.stderr,
    )


def _shares(answer: Classification) -> list[tuple[float, str]]:
    """Return what is shown of each label: its probability where there is one, else its score."""
    if answer.none_of_these is None:
        return [(p.score, p.label) for p in answer.predictions]
    shares = [(p.probability or 0.0, p.label) for p in answer.predictions]
    return [*shares, (answer.none_of_these, NONE_OF_THESE)]
