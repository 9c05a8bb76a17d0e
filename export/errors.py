"""What can go wrong while a bundle is made."""

from __future__ import annotations


class ExportError(Exception):
    """A checkpoint that could not be made into a bundle; the message says which part and why."""
