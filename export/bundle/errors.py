"""What can be wrong with a bundle."""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle that cannot be used; the message names the file and says what to do."""
