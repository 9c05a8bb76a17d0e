"""What can be wrong with an evaluation."""

from __future__ import annotations


class EvaluateError(ValueError):
    """An evaluation that cannot be made; the message says what to do."""
