"""What can be wrong with a set of clips."""

from __future__ import annotations


class DataError(ValueError):
    """A list, a label file or a clip source that cannot be used; the message says what to do."""
