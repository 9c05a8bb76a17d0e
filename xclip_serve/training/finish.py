"""After a training: what it came to on clips that had no part in it, and the bundle."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from export.build import BundleOptions, make_bundle
from model.checkpoint import read_network
from model.data.lists.cliplist import read_clips
from model.data.lists.folders import LABELS, TEST
from model.data.lists.labels import read_labels
from model.evaluate.run import Views, evaluate
from model.evaluate.sources import from_checkpoint
from model.progress import Steps
from model.train.config import TrainConfig
from model.train.export_run import CHECKPOINT, REPORT
from xclip_serve.training.preparation import LISTS

BUNDLE = "bundle"
Say = Callable[[str], None]


def finish_run(run: Path, config: TrainConfig, say: Say) -> None:
    """Say accuracy before and after, on the clips to test on as well, and make the bundle."""
    report = json.loads((run / REPORT / "report.json").read_text(encoding="utf-8"))
    measured = report["accuracy"]
    before = (
        f"{measured[0]['top1']:.0%} before training, "
        if measured and measured[0]["update"] == 0
        else ""
    )
    say(f"top-1 of {report['clips']} clips: {before}{report['top1']:.0%} after it")
    if (run / LISTS / TEST).is_file():
        _test(run, config, say)
    bundle = run / BUNDLE
    options = BundleOptions(label_files=(run / LISTS / LABELS,), overwrite=True)
    make_bundle(read_network(run / CHECKPOINT), bundle, options, Steps())
    say(f"serve it: {_program()} serve {bundle}")


def _program() -> str:
    """Return what starts our commands here, as it can be typed again."""
    typed, found = sys.argv[0], shutil.which("xclip-serve")
    if Path(typed).name != "xclip-serve":
        return f"{sys.executable} -m xclip_serve"
    if found is not None and os.path.samefile(found, typed):
        return "xclip-serve"
    return typed


def _test(run: Path, config: TrainConfig, say: Say) -> None:
    labels = read_labels(run / LISTS / LABELS)
    clips = read_clips([run / LISTS / TEST], config.data.root, labels)
    scorer = from_checkpoint(str(run / CHECKPOINT), config.compute.device, "fp32", None).scorer
    scores = evaluate(scorer, clips, Views(), config.data)
    say(f"top-1 of {len(scores.truth)} clips to test on, which chose nothing: {scores.top(1):.0%}")
