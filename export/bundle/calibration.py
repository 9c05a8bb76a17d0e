"""How sure answers are, as measured on the clips of whoever runs the bundle; in `bundle.json`."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Statistic = Literal["max_logit", "energy", "margin", "negatives", "odds", "combined"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
# What is combined: of the labels their largest logit, the second and the logarithm of the summed
# exponentials, and of the negatives the same, with the mean instead of the second.
NUMBERS = ("best", "second", "energy", "negative_best", "negative_energy", "negative_mean")
COVERAGES = tuple(percent / 100 for percent in range(50, 100))

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Logistic(_Part):
    """The probability 1 / (1 + exp(-(slope · x + offset)))."""

    slope: Positive = 1.0
    offset: Finite = 0.0


class Contrast(_Part):
    """The probability of a label by its logit, less `share` of its rivals' (summed exponentials).

    Attributes:
        share: How much of theirs is taken from the logit.
        known: From what is left to the probability.
    """

    share: Finite
    known: Logistic


class Spread(_Part):
    """Mean and standard deviation of a figure over the folds of a cross-validation."""

    mean: Finite
    deviation: Finite


class OpenSetFigures(_Part):
    """What held-out clips said of `none_of_these` and `probability`.

    Attributes:
        auroc: Of `none_of_these`: a clip that shows none of the labels against one that does.
        fpr95: Share of clips without any of the labels that are taken for known where 95 % of the
            known ones are.
        ece: Expected calibration error of the likeliest answer, 15 bins.
    """

    auroc: Spread
    fpr95: Spread
    ece: Spread


class CalibrationFigures(_Part):
    """Figures of the same held-out clips without this calibration and with it."""

    folds: int
    before: OpenSetFigures
    after: OpenSetFigures
    coverage_90: Spread


class Calibration(_Part):
    """What turns logits into probabilities that hold on clips like those of the list.

    Attributes:
        clips: Clips of the list that were used.
        unknown: Clips that show none of its labels; 0 where each clip stood for one, asked
            without its own label.
        labels: How many labels were asked about at a time.
        temperature: What logits are divided by before the softmax.
        statistic: What tells the known from the unknown; by cross-validation.
        weights: What each of NUMBERS is multiplied by, where they are `combined`.
        known: From that statistic to the probability that one of the labels is true.
        sigmoid: From the logit of a label to the probability that it is true.
        contrast: The same for a label among others; None in calibrations from before it.
        conformal: For each of COVERAGES: how far from 1 the probability of the true label was at
            most for that share of the clips; 1 where there were too few to say.
    """

    clips: Annotated[int, Field(gt=0)]
    unknown: Annotated[int, Field(ge=0)]
    labels: Annotated[int, Field(gt=1)]
    temperature: Positive
    statistic: Statistic
    # These two are left out where they change nothing: programs from before them read it as well.
    weights: Annotated[tuple[Finite, ...], Field(exclude_if=lambda value: not value)] = ()
    known: Logistic
    sigmoid: Logistic
    contrast: Annotated[Contrast | None, Field(exclude_if=lambda value: value is None)] = None
    conformal: Annotated[
        tuple[Share, ...], Field(min_length=len(COVERAGES), max_length=len(COVERAGES))
    ]
    figures: CalibrationFigures

    @model_validator(mode="after")
    def _weighted(self) -> Self:
        needed = len(NUMBERS) if self.statistic == "combined" else 0
        if len(self.weights) != needed:
            raise ValueError(f"weights: {needed} are needed, there are {len(self.weights)}")
        return self
