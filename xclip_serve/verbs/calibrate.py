"""`xclip-serve calibrate BUNDLE --list val.csv [--unknown FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.bundle import open_bundle
from export.bundle.calibration import Calibration, Spread
from export.bundle.writing import replace_manifest
from model.command_line import Parser, one_line, whole
from model.data.errors import DataError
from model.data.lists.labels import read_labels
from xclip_serve.errors import ClassifyError, cannot_open
from xclip_serve.verbs.asking import DONE, INTERRUPTED, MISTAKE, NOT_OF_THE_CLIP

PROGRAM = "xclip-serve calibrate"
SHOWN = 5  # clips that cannot be used are named
EXAMPLES = """\
examples:
  xclip-serve calibrate bundles/b32 --list val.csv
  xclip-serve calibrate bundles/b32 --list val.csv --unknown other-clips/

A row of the list is path,label; a clip with several labels has a row for each. A server that runs
takes the new state of its bundle on SIGHUP.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        prog=PROGRAM,
        description="Measure on clips of yours how sure a bundle's answers are, and store it in "
        "the bundle: probabilities with open_set, coverage, scores=sigmoid. Use clips that the "
        "network was not trained on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    p.add_argument("--list", type=Path, required=True, metavar="FILE", help="clips and labels")
    p.add_argument("--root", type=Path, help="where its paths start (default: the list's folder)")
    p.add_argument("--labels", type=Path, metavar="FILE", help="all labels that are asked about "
                   "(CSV with name; default: those of the list)")  # fmt: skip
    p.add_argument(
        "--unknown",
        metavar="PATH",
        help="clips that show none of the labels: a folder or a list (default: every clip is "
        "asked about once more without its own label)",
    )
    p.add_argument("--jobs", type=whole(1), metavar="N", help="decoding processes")
    return p


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    try:
        return _run(given)
    except ClassifyError as error:
        _say(error.detail)
    except OSError as error:
        _say(cannot_open(error))
    except (ValueError, RuntimeError, DataError) as error:
        _say(error)
    except KeyboardInterrupt:
        _say("stopped; the bundle is as it was")
        return INTERRUPTED
    return MISTAKE


def _run(given: argparse.Namespace) -> int:
    from model.progress import progress
    from xclip_serve.calibration.calibrate import calibrate, check_enough
    from xclip_serve.calibration.gather import gather, read_known
    from xclip_serve.classifier import Classifier
    from xclip_serve.clips import find_clips

    bundle = open_bundle(given.bundle)
    labels = None if given.labels is None else read_labels(given.labels)
    known = read_known(given.list, given.root, labels)
    others = None if given.unknown is None else list(find_clips([given.unknown]))
    check_enough(known.singles, None if others is None else len(others), len(known.labels))
    jobs = {} if given.jobs is None else {"decode_workers": given.jobs}
    with Classifier(given.bundle, **jobs) as classifier:
        total = len(known.truth) + len(others or ())
        with progress("asking about clips", total) as advance:
            evidence, failed = gather(classifier, known.labels, known.truth, advance)
            unknown = None
            if others is not None:
                nothing = dict.fromkeys(others, ())
                unknown, bad = gather(classifier, known.labels, nothing, advance)
                failed |= bad
    _report(failed)
    calibration = calibrate(evidence, unknown)
    replace_manifest(given.bundle, bundle.manifest.model_copy(update={"calibration": calibration}))
    print(_table(calibration))
    print(
        f"{given.bundle} is calibrated: sha256:{open_bundle(given.bundle, check_files=False).hash}"
    )
    return DONE


def _report(failed: Mapping[str, ClassifyError]) -> None:
    """Name clips that cannot be used. ClassifyError where none could."""
    for error in failed.values():
        if error.code in NOT_OF_THE_CLIP:
            raise error
    for path, error in list(failed.items())[:SHOWN]:
        _say(f"{path} is left out: {error.detail}")
    if len(failed) > SHOWN:
        _say(f"{len(failed) - SHOWN} more clips are left out")


def _table(calibration: Calibration) -> str:
    """Return what was measured, before and after."""
    figures = calibration.figures
    unknown = calibration.unknown or "the same without their label"
    lines = [
        f"{calibration.clips} clips of {calibration.labels} labels; unknown: {unknown}; "
        f"{figures.folds} folds, mean ± deviation",
        f"{'':24}{'before':>18}{'after':>18}",
    ]
    for name, title in (("auroc", "AUROC"), ("fpr95", "FPR95"), ("ece", "calibration error")):
        before, after = getattr(figures.before, name), getattr(figures.after, name)
        lines.append(f"{title:24}{_shown(before):>18}{_shown(after):>18}")
    lines.append(f"{'coverage at 0.9':24}{'':>18}{_shown(figures.coverage_90):>18}")
    lines.append(
        f"temperature {calibration.temperature:.3g}, known from unknown by {calibration.statistic}"
    )
    return "\n".join(lines)


def _shown(spread: Spread) -> str:
    return f"{spread.mean:.3f} ± {spread.deviation:.3f}"


def _say(what: object) -> None:
    print(f"{PROGRAM}: {one_line(what)}", file=sys.stderr)
