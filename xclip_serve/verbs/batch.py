"""`xclip-serve batch PATH… --labels FILE --output TABLE`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.command_line import Parser, new_file, one_line, whole
from model.inputs import clean_label
from xclip_serve.asked_rows import RowQuestion
from xclip_serve.clips import find_clips, shard_of
from xclip_serve.errors import ClassifyError, cannot_open
from xclip_serve.folders import DiskFolder, open_folder
from xclip_serve.labels import Labels
from xclip_serve.parts import PartsTable
from xclip_serve.rows import Layout, VectorLayout, shown
from xclip_serve.storage import is_address
from xclip_serve.table_question import IN_PARTS, TableQuestion
from xclip_serve.tables import Table, open_table
from xclip_serve.verbs.asking import (
    DONE,
    INTERRUPTED,
    MISTAKE,
    SOME_FAILED,
    add_clip_question,
    add_question,
    asked,
    in_options,
    labels_of,
    options_of,
)
from xclip_serve.verbs.progress import progress

PROGRAM = "xclip-serve batch"
SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")
# Options that say something of labels, of which there are none with vectors.
OF_LABELS = (
    *("labels", "label", "label_set", "template", "sigmoid", "open_set", "coverage"),
    *("scores", "top_k"),
)
EXAMPLES = """\
examples:
  xclip-serve batch clips/ --labels labels.txt --output table.csv
  xclip-serve batch 'clips/**/*.mp4' --labels kinetics400.csv --model bundles/b32 --output t.parquet
  find . -name '*.webm' | xclip-serve batch - --labels labels.txt --output table.jsonl
  xclip-serve batch clips/ --labels labels.txt --shard 1/2 --output first.csv   # and 2/2 elsewhere
  xclip-serve batch s3://bucket/clips --labels labels.txt --output s3://bucket/table
  xclip-serve batch clips/ --labels labels.txt --engine ray --output table/

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
        type=_place,
        required=True,
        metavar="TABLE",
        help="table to write or to go on with: .csv, .jsonl or .parquet; an address such as "
        "s3://bucket/table, or a folder that is there: Parquet in parts",
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
        help="decoding processes (default: cores); with --server, questions at a time (8); with "
        "--engine ray, cores of each actor (1)",
    )
    p.add_argument("--shard", type=_shard, metavar="I/N", help="only part I of N, from 1/N to N/N")
    p.add_argument(
        "--engine",
        choices=["ray"],
        help="spread the work over a Ray cluster, that of RAY_ADDRESS or one on this machine; "
        "TABLE is a folder, which every machine can write to",
    )
    return p


def _shard(text: str) -> tuple[int, int]:
    match = SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, such as 1/4, not {text}")
    return int(match[1]), int(match[2])


def _place(text: str) -> str | Path:
    """Read where a table is: an address, a folder that is there, or a file in one."""
    if is_address(text):
        return text
    return Path(text) if os.path.isdir(text) else new_file(text)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    try:
        return _run(given)
    except ClassifyError as error:
        _say(f"{in_options(error.detail)}; what is done is kept: run the command again to go on")
    except OSError as error:
        _say(cannot_open(error))
    except (ValueError, RuntimeError) as error:
        _say(error)
    except KeyboardInterrupt:
        _say("stopped; what is done is kept: run the command again to go on")
        return INTERRUPTED
    return MISTAKE


def _run(given: argparse.Namespace) -> int:
    labels = _no_labels(given) if given.embeddings else labels_of(given)
    shard, shards = given.shard or (1, 1)
    clips = [clip for clip in find_clips(given.paths) if shard_of(clip, shards) == shard]
    layout = VectorLayout() if given.embeddings else _layout(given, labels.names)
    rows = RowQuestion(labels, options_of(given), layout)
    if given.engine == "ray" or isinstance(given.output, str) or given.output.is_dir():
        folder, beside = open_folder(given.output), IN_PARTS
        table: Table = PartsTable(folder, layout.columns)
    else:
        folder, beside = DiskFolder(given.output.parent), f"{given.output.name}.question.json"
        table = open_table(given.output, layout.columns)
    complete = False
    try:
        kept = _question(given, labels)
        question = TableQuestion(folder, beside, kept, begun=bool(table.done))
        left = [clip for clip in clips if shown(clip) not in table.done]
        started = time.monotonic()
        if left and isinstance(table, PartsTable) and given.engine == "ray":
            _spread(given, rows, left, table, kept)
        elif left:
            _classify(given, rows, left, table, question)
        complete = True
    finally:
        table.close(complete=complete)
    seconds = time.monotonic() - started
    rate = f", {len(left) / seconds:.3g} clips/s" if left else ", nothing was left to do"
    failed = f", {table.failed} of them failed" if table.failed else ""
    _say(f"{given.output} has {len(table.done)} clips{failed}{rate}")
    return SOME_FAILED if table.failed else DONE


def _no_labels(given: argparse.Namespace) -> Labels:
    """Return no label. ValueError names an option that is about labels."""
    for name in OF_LABELS:
        if getattr(given, name) != parser().get_default(name):
            option = name.replace("_", "-")
            raise ValueError(
                f"--embeddings makes vectors and asks about no label; leave --{option} out"
            )
    return Labels.of([])


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
    rows: RowQuestion,
    clips: Sequence[str],
    table: Table,
    question: TableQuestion,
) -> None:
    """Add a row for each clip. ClassifyError where no other clip would be answered either."""
    at_server = given.server is not None
    jobs: dict[str, Any] = {"at_once": given.jobs} if given.jobs and at_server else {}
    settings = {"decode_workers": given.jobs} if given.jobs and not at_server else {}
    with asked(given, **settings) as ask, progress(len(clips), _say) as advance:
        for row in rows.rows(ask, clips, question.check_bundle, **jobs):
            table.add(row)
            advance(table.failed)


def _spread(
    given: argparse.Namespace,
    rows: RowQuestion,
    clips: Sequence[str],
    table: PartsTable,
    question: dict[str, Any],
) -> None:
    """Have a Ray cluster add a row for each clip. Raises what `_classify` does."""
    if given.server is not None:
        raise ValueError("--engine ray asks in its own processes; leave --server out")
    from xclip_serve.ray_batch import Work, spread

    here = (clip for clip in clips if not is_address(clip) and os.path.exists(clip))
    work = Work(
        table=table.place,
        rows=rows,
        question=question,
        model=given.model,
        precision=given.precision,
        cores=given.jobs or 1,
        start=os.getcwd(),
        witness=next(here, None),
    )
    with progress(len(clips), _say) as advance:
        for row in spread(work, clips):
            table.note(row)
            advance(table.failed)


def _say(what: object) -> None:
    print(f"{PROGRAM}: {one_line(what)}", file=sys.stderr)
