"""The numbers of a question: their bounds, and what is said of one that is out of them."""

from __future__ import annotations

from export.bundle.calibration import COVERAGES
from service.contract.errors import ApiError
from service.settings import Settings

# From 1 to the setting of this name.
COUNTS = {"top_k": "max_labels", "shortlist": "max_labels", "views": "max_views"}
VALUES_PER_LABEL = 10  # of JSON, generously: a label is a text and a comma
VALUES_BESIDE_LABELS = 1000


def most_values(settings: Settings) -> int:
    """Return how many values, names and brackets JSON may have."""
    return VALUES_PER_LABEL * settings.max_labels + VALUES_BESIDE_LABELS


def check_count(name: str, value: int | None, settings: Settings) -> int | None:
    """Return the value of a count; ApiError `bad_field` out of its bounds."""
    if value is not None and not 1 <= value <= getattr(settings, COUNTS[name]):
        raise not_a_count(name, settings)
    return value


def check_seconds(name: str, value: float | None) -> float | None:
    """Return a time; ApiError `bad_field` before the clip begins."""
    if value is not None and value < 0:
        raise not_seconds(name)
    return value


def check_coverage(value: float | None) -> float | None:
    """Return a coverage; ApiError `bad_field` outside of what a calibration stores."""
    if value is not None and not COVERAGES[0] <= value <= COVERAGES[-1]:
        raise not_a_coverage()
    return value


def not_a_coverage(hint: str = "") -> ApiError:
    """Make the error for what is no share of clips that can be covered."""
    low, high = COVERAGES[0], COVERAGES[-1]
    return ApiError("bad_field", f"coverage must be a number from {low:g} to {high:g}{hint}")


def not_a_count(name: str, settings: Settings, hint: str = "") -> ApiError:
    """Make the error for what is no number within the bounds of this field."""
    high = getattr(settings, COUNTS[name])
    return ApiError("bad_field", f"{name} must be a whole number from 1 to {high}{hint}")


def not_seconds(name: str, hint: str = "") -> ApiError:
    """Make the error for what is no time."""
    return ApiError("bad_field", f"{name} must be a number of seconds, 0 or more{hint}")


def check_length(name: str, value: float | None, least: float, most: float) -> float | None:
    """Return a number of seconds; ApiError `bad_field` out of its bounds, and for none at all."""
    if value is not None and (value <= 0 or not least <= value <= most):
        raise not_a_length(name, least, most)
    return value


def not_a_length(name: str, least: float, most: float, hint: str = "") -> ApiError:
    """Make the error for what is no length of time within bounds."""
    low = f"from {least:g}" if least else "above 0, up"
    return ApiError("bad_field", f"{name} must be a number of seconds {low} to {most:g}{hint}")
