"""Decode strangers' videos in confined processes.

The parent imports `DecodePool`; a worker runs `service.decode.worker`. Names are loaded when they
are first used, so that a worker loads nothing of the parent's side.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.decode.errors import (
        DecodeCrashed,
        DecodeTimeout,
        DecodeUnavailable,
        TooDemanding,
    )
    from service.decode.options import PoolOptions
    from service.decode.pool import DecodePool
    from service.decode.stats import PoolStats

__all__ = [
    "DecodeCrashed",
    "DecodePool",
    "DecodeTimeout",
    "DecodeUnavailable",
    "PoolOptions",
    "PoolStats",
    "TooDemanding",
]

HOMES = {"DecodePool": "pool", "PoolOptions": "options", "PoolStats": "stats"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'errors')}"), name)
