"""What can go wrong with a runtime."""

from __future__ import annotations


class RuntimeUnavailableError(Exception):
    """A runtime that cannot work here; the message says why and what to do."""


class DeviceMemoryError(Exception):
    """A batch that does not fit the device's memory; smaller ones may still run."""
