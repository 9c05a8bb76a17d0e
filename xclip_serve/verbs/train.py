"""`xclip-serve train DIR`: from a folder of clips to a bundle that is ready to serve."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import model
from model.command_line import Parser, one_line, sleep_while_waiting, whole
from xclip_serve.verbs.asking import DONE, INTERRUPTED, MISTAKE

PROGRAM = "xclip-serve train"
LAST = ("matplotlib", "onnx", "onnxruntime")  # packages that the report and the bundle need
DEMO = Path(model.__file__).parent / "demo"
ONLY_SHAPES = (
    "starting from the demo, which has seen drawn shapes alone: for filmed clips give --from "
    "microsoft/xclip-base-patch32, or anything else that export takes"
)
EXAMPLES = """\
examples:
  xclip-serve train my-clips --dry-run        what would be done, and how long it takes
  xclip-serve train my-clips --from microsoft/xclip-base-patch32 --minutes 60
  xclip-serve train train.csv --val val.csv --root my-clips --labels labels.csv
  xclip-serve train --config FILE             settings of your own; see python -m model.train --help

A folder has a folder for each label; or train and val (and test) with such in them.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Train a network on your clips and make a bundle of it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("data", nargs="+", type=Path, metavar="DIR", help="folder of clips; or lists of them")
    add("--val", nargs="+", type=Path, default=[], metavar="LIST", help="beside lists: to measure")
    add("--root", type=Path, metavar="DIR", help="beside lists: where their paths start")
    add("--labels", type=Path, metavar="FILE", help="beside lists: label file (id,name,text)")
    add(
        "--group-by",
        default="stem",
        metavar="RULE",
        help="which clips are cuts of one video and stay together when some are held back: stem "
        "(names but for the number of a cut), folder, none, or a regular expression with one "
        "group (stem)",
    )
    add(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="network to start from, as for export (default: the demo, which knows drawn shapes)",
    )
    add("--output", type=Path, metavar="RUN", help="folder of the run (runs/NAME)")
    add(
        "--preset",
        choices=("full", "fast"),
        help="full trains the vision tower too, fast leaves it as it is (default: fast for a "
        "large network on a CPU)",
    )
    add("--epochs", type=whole(1), metavar="N", help="how often each clip is seen")
    add("--minutes", type=whole(1), metavar="N", help="train for so long at most, folds included")
    add(
        "--folds",
        type=whole(2),
        metavar="K",
        help="first train K times on other parts of the clips, and say mean and deviation",
    )
    add("--dry-run", action="store_true", help="find, check, choose and time; train nothing")
    return p


def main(arguments: Sequence[str]) -> int:
    """Run the command; 2 with one line on a mistake."""
    if any(argument.split("=")[0] == "--config" for argument in arguments):
        from model.train.__main__ import main as train_by_settings

        return train_by_settings(arguments)
    options = parser().parse_args(arguments)
    for package in LAST:
        if find_spec(package) is None:
            raise ModuleNotFoundError(package, name=package)
    sleep_while_waiting()
    # Torch comes in here, so that --help and typing mistakes answer at once.
    from export.errors import ExportError
    from model.train.loop import Interrupted

    try:
        return _run(options)
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"{PROGRAM}: {one_line(stop) or 'stopped before it began'}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ExportError) as error:
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        return MISTAKE


def _run(options: argparse.Namespace) -> int:
    from model.train.loop import train
    from model.train.run import SNAPSHOTS
    from model.train.settings import read_config
    from xclip_serve.training.clips import SEED, Source
    from xclip_serve.training.finish import finish_run
    from xclip_serve.training.folds import cross_validate
    from xclip_serve.training.preparation import SETTINGS, Request, prepare_run

    run: Path = options.output or Path("runs") / (options.data[0].resolve().stem or "training")
    settings = run / SETTINGS
    if settings.is_file() and any(run.glob(f"**/{SNAPSHOTS}/update-*")):
        _check_same_clips(read_config(["--config", str(settings)]).data.root, options, run)
        _say(f"going on with {run} as {settings} says; delete that folder to start over")
    else:
        if options.source is None:
            if not DEMO.is_dir():
                raise ValueError("say what to start from, with --from: the demo is not installed")
            _say(ONLY_SHAPES)
        request = Request(
            Source(
                tuple(options.data),
                tuple(options.val),
                options.root,
                options.labels,
                options.group_by,
            ),
            options.source or str(DEMO),
            options.preset,
            options.epochs,
            options.minutes,
            1 + (options.folds or 0),
        )
        prepare_run(request, run, _say)
    if options.dry_run:
        _say(
            "nothing is trained yet: leave out --dry-run, or, for the training alone, python -m "
            f"model.train --config {settings}"
        )
        return DONE
    config = read_config(["--config", str(settings)])
    if options.folds:
        cross_validate(run, config, options.folds, SEED, options.group_by, _say)
    train(config)
    finish_run(run, config, _say)
    return DONE


def _check_same_clips(root: Path | None, options: argparse.Namespace, run: Path) -> None:
    """Refuse to go on with a run on other clips, which has the same name by chance."""
    first: Path = options.data[0]
    asked: Path = options.root or (first if first.is_dir() else Path())
    if root is not None and root.resolve() != asked.resolve():
        raise ValueError(
            f"{run} holds a run on {root}: give another --output, or delete that folder"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
