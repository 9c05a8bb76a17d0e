"""How far from torch a precision may be and still be called made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.bundle.manifest import PrecisionName


@dataclass(frozen=True)
class Allowed:
    """The largest error in logits and the smallest cosine that still pass."""

    logit_error: float
    cosine: float


# fp32 differs by rounding alone. The others may move a probability of one half by less than 0.04
# (fp16), 0.12 (bf16) and 0.25 (int8): 0.25, 0.5 and 1.0 logits through the softmax's slope of 1/4.
LIMITS: dict[PrecisionName, Allowed] = {
    "fp32": Allowed(1e-3, 0.99999),
    "fp16": Allowed(0.15, 0.9999),
    "bf16": Allowed(0.5, 0.999),
    "int8": Allowed(1.0, 0.99),
}


def limits_text() -> str:
    """Format the limits for the help, a line each."""
    return "\n".join(
        f"  {name}  logits within {allowed.logit_error:g}, cosine at least {allowed.cosine:g}"
        for name, allowed in LIMITS.items()
    )
