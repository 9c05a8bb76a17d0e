"""`xclip-serve timeline VIDEO LABEL…`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from model.command_line import Parser, new_file, whole
from service.api.timeline_formats import FORMATS
from service.contract.timeline import FactsLine, Timeline, TimelineSegment, WindowLine
from xclip_serve.question import TimelineOptions
from xclip_serve.timelines import timeline_of
from xclip_serve.verbs.asking import (
    DONE,
    NOT_OF_THE_CLIP,
    add_question,
    asked,
    failures_told,
    labels_of,
)

if TYPE_CHECKING:
    from rich.status import Status

    from xclip_serve.timelines import TimelineLine

PROGRAM = "xclip-serve timeline"
OF_THE_QUESTION = NOT_OF_THE_CLIP | {"start_past_end", "too_many_windows"}
BAR_WIDTH = 40
JSON, LINES = "json", "ndjson"
SUFFIXES = [JSON, LINES, *FORMATS]
EXAMPLES = """\
examples:
  xclip-serve timeline docs/clip.mp4 "a red circle moving left" "a red circle moving right"
  xclip-serve timeline match.mkv --labels sports.txt --model bundles/b32 --window 2 --stride 1
  xclip-serve timeline film.mp4 dancing fighting --open-set --output film.srt
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Say which labels hold when in a video. Exit status: 0; 2 for a mistake in the "
        "question; 3 where the video cannot be used.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("video", metavar="VIDEO", help="video file; - reads standard input")
    p.add_argument("texts", metavar="LABEL", nargs="*", help="what may be seen in it")
    p.add_argument("--window", type=float, metavar="S", help="seconds looked at together (4)")
    p.add_argument(
        "--stride",
        type=float,
        metavar="S",
        help="seconds from one such window to the next (half a window)",
    )
    add_question(p)
    p.add_argument("--top-k", type=whole(1), metavar="N", help="labels of each window in the JSON")
    p.add_argument(
        "--output",
        type=_output,
        metavar="FILE",
        help="write there: .json (the answer), .ndjson (each window as soon as it is done), and "
        "segments as .csv, .srt or .vtt",
    )
    p.add_argument("--json", action="store_true", help="print the answer as the API gives it")
    return p


def _output(text: str) -> Path:
    file = new_file(text)
    if file.suffix.lower().removeprefix(".") not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in .{', .'.join(SUFFIXES)}, not {text}")
    return file


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_intermixed_args(arguments)
    with failures_told(PROGRAM, OF_THE_QUESTION) as failure:
        labels, options = labels_of(given), _options(given)
        video = sys.stdin.buffer if given.video == "-" else given.video
        with asked(given, decode_workers=1) as ask:
            lines = ask.timeline_lines(video, labels.texts, **options)
            answer = _followed(map(labels.named_line, lines), given.output)
        _write(answer, given.output)
    if failure.status is not None:
        return failure.status
    for warning in answer.warnings:
        print(f"note: {warning}", file=sys.stderr)
    if not answer.segments:
        print("note: no label is likely enough in any window; --json has scores", file=sys.stderr)
    if given.json:
        print(answer.model_dump_json())
    elif given.output is None:
        _show(answer)
    return DONE


def _options(given: argparse.Namespace) -> TimelineOptions:
    options = {name: getattr(given, name, None) for name in TimelineOptions.__annotations__}
    named = {"window_s": given.window, "stride_s": given.stride}
    return cast(
        TimelineOptions,
        {**options, **named, "scores": "sigmoid" if given.sigmoid else None},
    )


def _followed(lines: Iterator[TimelineLine], output: Path | None) -> Timeline:
    """Read the lines as they come; on a terminal, say how far it is."""
    if output is not None and _kind(output) == LINES:
        lines = _kept(lines, output)
    if not sys.stderr.isatty():
        return timeline_of(lines)
    from rich.console import Console

    with Console(stderr=True).status("looking …") as status:
        return timeline_of(_counted(lines, status))


def _kept(lines: Iterator[TimelineLine], file: Path) -> Iterator[TimelineLine]:
    begun = list(islice(lines, 1))  # a refusal comes here, and leaves what an earlier run wrote
    with file.open("w", encoding="utf-8") as out:
        for line in chain(begun, lines):
            print(line.model_dump_json(), file=out, flush=True)
            yield line


def _counted(lines: Iterable[TimelineLine], status: Status) -> Iterator[TimelineLine]:
    count = windows = 0
    for line in lines:
        if isinstance(line, FactsLine):
            windows = line.windows
        count += isinstance(line, WindowLine)
        status.update(f"{count} of {windows} windows")
        yield line


def _kind(file: Path) -> str:
    return file.suffix.lower().removeprefix(".")


def _write(answer: Timeline, output: Path | None) -> None:
    if output is None or _kind(output) == LINES:
        return
    if _kind(output) == JSON:
        text = answer.model_dump_json() + "\n"
    else:
        text = FORMATS[_kind(output)].write(answer.segments)
    output.write_text(text, encoding="utf-8", newline="")


def _show(answer: Timeline) -> None:
    """Print a table with bars on a terminal; elsewhere start, end, score and label, with tabs."""
    if not sys.stdout.isatty():
        for s in answer.segments:
            print(f"{s.start_s:.3f}\t{s.end_s:.3f}\t{s.score:.4f}\t{s.label}")
        return
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    begin_s = answer.windows[0].start_s
    length_s = answer.windows[-1].end_s - begin_s
    table = Table(show_header=False, box=None, pad_edge=False)
    for segment in answer.segments:
        start_s, end_s = segment.start_s - begin_s, segment.end_s - begin_s
        table.add_row(
            Text(_span(segment)),
            Bar(length_s, start_s, end_s, width=BAR_WIDTH),
            Text(f"{100 * segment.score:5.1f} %"),
            Text(segment.label),
        )
    Console().print(table)


def _span(segment: TimelineSegment) -> str:
    return f"{_clock(segment.start_s)} – {_clock(segment.end_s)}"


def _clock(seconds: float) -> str:
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{tenths / 10:04.1f}"
