"""From evidence to what is stored in a bundle, if there is enough of it."""

from __future__ import annotations

from export.bundle.calibration import Calibration
from xclip_serve.calibration.evidence import Evidence
from xclip_serve.calibration.figures import cross_validated
from xclip_serve.calibration.fit import fit

LEAST_CLIPS = 50  # of exactly one label
LEAST_UNKNOWN = 20
LEAST_LABELS = 2
LEAST_LABELS_ALONE = 3  # where a clip stands for an unknown one, two others must be left


def calibrate(known: Evidence, unknown: Evidence | None) -> Calibration:
    """Fit on all clips; the figures are those of a cross-validation.

    Args:
        known: Clips with the labels that are true of them.
        unknown: Clips that show none of the labels. None: each known clip stands for one as well,
            asked about all labels but its own.

    Raises:
        ValueError: There are too few; says how many are needed.
    """
    check_enough(
        len(known.single), None if unknown is None else len(unknown), known.logits.shape[1]
    )
    others = known.without_truth() if unknown is None else unknown
    fitted = fit(known, others)
    return Calibration(
        clips=len(known),
        unknown=0 if unknown is None else len(unknown),
        labels=known.logits.shape[1],
        temperature=fitted.rule.temperature,
        statistic=fitted.rule.statistic,
        weights=fitted.rule.weights,
        known=fitted.rule.known,
        sigmoid=fitted.sigmoid,
        contrast=fitted.contrast,
        conformal=fitted.conformal,
        figures=cross_validated(known, unknown),
    )


def check_enough(singles: int, unknown: int | None, labels: int) -> None:
    """Refuse what says too little.

    Args:
        singles: Clips of which exactly one label is true.
        unknown: Clips that show none of the labels; None where known ones stand for them.
        labels: How many are asked about.

    Raises:
        ValueError: With what is needed.
    """
    if singles < LEAST_CLIPS:
        raise ValueError(
            f"{singles} clips with exactly one label are too few: {LEAST_CLIPS} are needed, "
            f"{LEAST_CLIPS - singles} more"
        )
    if unknown is not None and unknown < LEAST_UNKNOWN:
        raise ValueError(
            f"{unknown} unknown clips are too few: {LEAST_UNKNOWN} are needed, "
            f"{LEAST_UNKNOWN - unknown} more; or leave --unknown out"
        )
    least = LEAST_LABELS_ALONE if unknown is None else LEAST_LABELS
    if labels < least:
        alone = ", or clips of none of them (--unknown)" if unknown is None else ""
        raise ValueError(f"{labels} labels are too few: {least} are needed{alone}")
