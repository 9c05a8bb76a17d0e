"""What can go wrong with a runtime."""

from __future__ import annotations


class RuntimeUnavailableError(Exception):
    """A runtime that cannot work here; the message says why and what to do."""
