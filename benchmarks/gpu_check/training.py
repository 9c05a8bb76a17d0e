"""Part four: an update of `model.train` against the same of transformers' model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.outcomes import Row, attempted

TRAINED = "xclip-base-patch32"
UPDATES = 5
FOLDER = "gpu-check-training"


def training(check: Check) -> Iterator[Row]:
    """Measure both, in each precision."""
    variant = TRAINED if TRAINED in check.options.variants else check.options.variants[0]
    for precision in check.options.precisions:
        if precision == "int8":
            continue
        what = {"variant": variant, "precision": precision}
        row = attempted(what, partial(_contest, check, variant, precision))
        yield row


def _contest(check: Check, variant: str, precision: str) -> Row:
    from benchmarks.lib import bundles
    from benchmarks.training import Contest, measure

    theirs, ours = measure(
        Contest(
            variant=variant,
            batch=check.options.training_batch,
            updates=UPDATES,
            precision=precision,
            device=check.device.name,
            seconds=check.options.training_seconds,
            folder=bundles.FOLDER / FOLDER,
        )
    )
    return {
        "batch": check.options.training_batch,
        "ours clips/s": ours["step clips/s"],
        "transformers clips/s": theirs["step clips/s"],
        "ratio": ours["step clips/s"] / theirs["step clips/s"],
        "loading_s": ours["loading s"],
        "step_s": ours["step s"],
    }
