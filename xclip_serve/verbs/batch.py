"""`xclip-serve batch PATH… --labels FILE --output TABLE`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from model.command_line import Parser, new_file, one_line, whole
from model.inputs import clean_label
from xclip_serve.clips import find_clips, shard_of
from xclip_serve.errors import ClassifyError, cannot_open
from xclip_serve.labels import Labels
from xclip_serve.rows import Layout, VectorLayout, shown
from xclip_serve.table_question import TableQuestion
from xclip_serve.tables import Table, open_table
from xclip_serve.verbs.asking import (
    DONE,
    INTERRUPTED,
    MISTAKE,
    NOT_OF_THE_CLIP,
    SOME_FAILED,
    add_clip_question,
    add_question,
    asked,
    labels_of,
    options_of,
)

if TYPE_CHECKING:
    from xclip_serve.classifier import Classifier
    from xclip_serve.client import Client
    from xclip_serve.question import Options

PROGRAM = "xclip-serve batch"
SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")
SAMPLING = ("start", "end", "views", "frame_rule")
NOTE_EVERY_S = 15  # where there is no terminal to write over a line
EXAMPLES = """\
examples:
  xclip-serve batch clips/ --labels labels.txt --output table.csv
  xclip-serve batch 'clips/**/*.mp4' --labels kinetics400.csv --model bundles/b32 --output t.parquet
  find . -name '*.webm' | xclip-serve batch - --labels labels.txt --output table.jsonl
  xclip-serve batch clips/ --labels labels.txt --shard 1/2 --output first.csv   # and 2/2 elsewhere

The same command goes on where it was stopped: a clip with a row is not asked about again.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Name what clips show, a row each. A clip that cannot be used has a row with "
        "error and code. Exit status: 0; 2 for a mistake; 3 where some clips failed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="clips, folders, patterns, lists (.txt, .csv or .parquet with a column path), or -",
    )
    p.add_argument(
        "--output",
        type=new_file,
        required=True,
        metavar="TABLE",
        help="table to write or to go on with: .csv, .jsonl or .parquet",
    )
    add_question(p)
    add_clip_question(p)
    p.add_argument(
        "--scores", choices=["best", "all"], default="best", help="all: a column for each label"
    )
    p.add_argument("--top-k", type=whole(1), default=1, metavar="N", help="labels in a row (1)")
    p.add_argument(
        "--embeddings",
        action="store_true",
        help="no labels: the vector of each clip, of length 1, to be compared with those of texts",
    )
    p.add_argument(
        "--jobs",
        type=whole(1),
        metavar="N",
        help="decoding processes (default: cores); with --server, questions at a time (8)",
    )
    p.add_argument("--shard", type=_shard, metavar="I/N", help="only part I of N, from 1/N to N/N")
    return p


def _shard(text: str) -> tuple[int, int]:
    match = SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, such as 1/4, not {text}")
    return int(match[1]), int(match[2])


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    try:
        return _run(given)
    except ClassifyError as error:
        _say(f"{error.detail}; what is done is kept: run the command again to go on")
    except OSError as error:
        _say(cannot_open(error))
    except (ValueError, RuntimeError) as error:
        _say(error)
    except KeyboardInterrupt:
        _say("stopped; what is done is kept: run the command again to go on")
        return INTERRUPTED
    return MISTAKE


def _run(given: argparse.Namespace) -> int:
    labels = Labels.of([]) if given.embeddings else labels_of(given)
    shard, shards = given.shard or (1, 1)
    clips = [clip for clip in find_clips(given.paths) if shard_of(clip, shards) == shard]
    layout = VectorLayout() if given.embeddings else _layout(given, labels.names)
    table = open_table(given.output, layout.columns)
    complete = False
    try:
        question = TableQuestion(given.output, _question(given, labels), begun=bool(table.done))
        left = [clip for clip in clips if shown(clip) not in table.done]
        started = time.monotonic()
        if left:
            _classify(given, labels, left, table, layout, question)
        complete = True
    finally:
        table.close(complete=complete)
    seconds = time.monotonic() - started
    rate = f", {len(left) / seconds:.3g} clips/s" if left else ", nothing was left to do"
    failed = f", {table.failed} of them failed" if table.failed else ""
    _say(f"{given.output} has {len(table.done)} clips{failed}{rate}")
    return SOME_FAILED if table.failed else DONE


def _question(given: argparse.Namespace, labels: Labels) -> dict[str, Any]:
    """Return all that a row's values depend on, beside its clip and the model."""
    options = {name: value for name, value in options_of(given).items() if name != "top_k"}
    names, texts = (list(map(clean_label, each)) for each in (labels.names, labels.texts))
    return {
        "labels": names,
        "texts": None if texts == names else texts,
        "precision": given.precision,
        **options,
    }


def _layout(given: argparse.Namespace, labels: Sequence[str]) -> Layout:
    layout = Layout(given.top_k, open_set=bool(given.open_set), coverage=given.coverage is not None)
    if given.scores == "best":
        return layout
    if given.label_set is not None:
        raise ValueError("--scores all needs --labels or --label, which name the columns")
    return replace(layout, scored=tuple(map(clean_label, labels)))


def _classify(
    given: argparse.Namespace,
    labels: Labels,
    clips: Sequence[str],
    table: Table,
    layout: Layout | VectorLayout,
    question: TableQuestion,
) -> None:
    """Add a row for each clip. ClassifyError where no other clip would be answered either."""
    at_server = given.server is not None
    jobs: dict[str, Any] = {"at_once": given.jobs} if given.jobs and at_server else {}
    settings = {"decode_workers": given.jobs} if given.jobs and not at_server else {}

    empty = [clip for clip in clips if os.path.isfile(clip) and not os.path.getsize(clip)]
    for clip in empty:  # the API takes an empty file for a mistake in the question
        table.add(layout.row(clip, ClassifyError("not_a_video", "the file is empty")))
    clips = [clip for clip in clips if shown(clip) not in table.done] if empty else clips
    with asked(given, **settings) as ask, _progress(len(clips)) as advance:
        for clip, answer in _answers(ask, given, labels, clips, layout, jobs):
            if isinstance(answer, ClassifyError) and answer.code in NOT_OF_THE_CLIP:
                raise answer
            if not isinstance(answer, ClassifyError):
                vector = isinstance(layout, VectorLayout)
                question.check_bundle(answer.bundle if vector else answer.model.bundle)
            table.add(layout.row(clip, answer))
            advance(table.failed)


def _answers(
    ask: Classifier | Client,
    given: argparse.Namespace,
    labels: Labels,
    clips: Sequence[str],
    layout: Layout | VectorLayout,
    jobs: dict[str, Any],
) -> Iterator[tuple[str, Any]]:
    """Ask about the clips; each comes with what its row is made of."""
    options = options_of(given)
    if isinstance(layout, VectorLayout):
        sampling = cast("Options", {name: options.get(name) for name in SAMPLING})
        return ask.embed_many(clips, **sampling, **jobs)
    if layout.scored:
        options["top_k"] = None
    answers = ask.classify_many(clips, labels.texts, **options, **jobs)
    return (
        (clip, answer if isinstance(answer, ClassifyError) else labels.named(answer))
        for clip, answer in answers
    )


class _Advance(Protocol):
    def __call__(self, failed: int) -> None: ...


@contextmanager
def _progress(total: int) -> Iterator[_Advance]:
    """Show how far it is: a bar on a terminal, a line now and then elsewhere."""
    from rich.progress import TextColumn

    from model.progress import progress_bar, progress_console

    console = progress_console()
    started = noted = time.monotonic()
    done = 0

    def figures(failed: int) -> str:
        rate = done / max(time.monotonic() - started, 1e-9)
        return f"{rate:.3g} clips/s" + (f", {failed} failed" if failed else "")

    if not console.is_terminal:

        def note(failed: int) -> None:
            nonlocal done, noted
            done += 1
            if time.monotonic() - noted > NOTE_EVERY_S:
                noted = time.monotonic()
                _say(f"{done} of {total}, {figures(failed)}")

        yield note
        return
    bar = progress_bar(console, TextColumn("{task.fields[figures]}"), transient=True)
    with bar:
        task = bar.add_task("clips", total=total, figures="")

        def advance(failed: int) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, figures=figures(failed))

        yield advance


def _say(what: object) -> None:
    print(f"{PROGRAM}: {one_line(what)}", file=sys.stderr)
