"""`python -m model.data check|folders|shards …`: look at a set, make one of folders, pack one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from model.command_line import Parser, complaint, new_file, share, whole

PROGRAM = "python -m model.data"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(prog=PROGRAM, description=__doc__)
    commands = p.add_subparsers(dest="command", required=True, parser_class=Parser)
    check = commands.add_parser("check", help="missing, broken and short clips; label trouble")
    _add_set(check)
    check.add_argument(
        "--val", nargs="+", type=Path, default=[], help="looked at as well; must not overlap"
    )
    check.add_argument(
        "--frames", type=whole(1), default=8, metavar="T", help="frames of a clip (8)"
    )
    check.add_argument("--json", type=new_file, metavar="FILE", help="also write the findings here")
    folders = commands.add_parser("folders", help="lists out of one folder for each label")
    folders.add_argument("root", type=Path, metavar="ROOT")
    folders.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    folders.add_argument(
        "--val-share", type=share, default=0.1, help="part of each label's clips (0.1)"
    )
    folders.add_argument("--seed", type=whole(0), default=0, help="decides which (0)")
    folders.add_argument(
        "--group-by",
        default="none",
        metavar="RULE",
        help="clips that stay on one side: stem (names but for the number of a cut), folder, none, "
        "or a regular expression with one group (none)",
    )
    shards = commands.add_parser("shards", help="pack a set into WebDataset .tar shards")
    _add_set(shards)
    shards.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    return p


def _add_set(p: argparse.ArgumentParser) -> None:
    p.add_argument("lists", nargs="+", type=Path, metavar="LIST", help="lists, tables or shards")
    p.add_argument("--root", type=Path, help="folder or .tar that the paths start from")
    p.add_argument("--labels", type=Path, metavar="FILE.csv", help="label file, header id,name")
    p.add_argument("--workers", type=whole(0), default=2, help="decoding processes (2)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 1 with one line on a mistake, and where `check` found something wrong."""
    options = parser().parse_args(arguments)
    commands = {"check": _check, "folders": _folders, "shards": _shards}
    try:
        return commands[options.command](options)
    except (ValueError, OSError) as error:
        print(complaint(PROGRAM, error), file=sys.stderr)
        return 1


def _check(options: argparse.Namespace) -> int:
    from model.data.check.check import check
    from model.data.check.findings import print_findings
    from model.data.config import DataConfig
    from model.data.frames.loading import worker_deaths_told
    from model.data.lists.cliplist import read_clips
    from model.data.lists.labels import read_labels
    from model.inputs import InputSpec, Tokenizer
    from model.progress import progress

    labels = read_labels(options.labels) if options.labels else None
    clips = read_clips(options.lists, options.root, labels)
    val = read_clips(options.val, options.root, clips.labels) if options.val else None
    total = len(clips) + (len(val) if val else 0)
    with worker_deaths_told(), progress("looking at clips", total) as on_clip:
        config = DataConfig(workers=options.workers)
        spec = InputSpec.official(options.frames)
        findings = check(clips, val, spec, Tokenizer.clip(), config, on_clip)
    print_findings(findings, options.frames)
    if options.json:
        options.json.write_text(json.dumps(findings.as_json(), indent=1) + "\n", encoding="utf-8")
    return int(findings.serious)


def _folders(options: argparse.Namespace) -> int:
    from model.data.lists.folders import split_folders, write_split
    from model.data.lists.names import named

    split = split_folders(options.root, options.val_share, options.seed, options.group_by)
    files = write_split(split, options.output)
    test = f", {len(split.test)} to test on" if split.test else ""
    print(
        f"{len(split.labels)} labels ({named(list(split.labels.names))}), {len(split.train)} clips "
        f"to train on, {len(split.val)} to measure accuracy on{test}: "
        f"{', '.join(map(str, files))}"
    )
    for note in split.notes:
        print(note)
    return 0


def _shards(options: argparse.Namespace) -> int:
    from model.data.lists.cliplist import read_clips
    from model.data.lists.labels import read_labels
    from model.data.lists.shard_writer import write_shards
    from model.progress import progress

    labels = read_labels(options.labels) if options.labels else None
    clips = read_clips(options.lists, options.root, labels)
    with progress("packing clips", len(clips)) as on_clip:
        for _ in write_shards(clips, options.output):
            on_clip()
    print(f"{len(clips)} clips in {len(list(options.output.glob('*.tar')))} shards")
    return 0


if __name__ == "__main__":
    sys.exit(main())
