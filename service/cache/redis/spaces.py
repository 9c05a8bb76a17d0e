"""Names in Redis of what belongs to one client: others, who do not ask for them, cannot find it."""

from __future__ import annotations

import hashlib

from service.cache.spaces import SHARED


def in_space(space: str, name: str) -> bytes:
    """Return the name under which a space keeps what has this name where all share one."""
    if space == SHARED:
        return name.encode()
    return hashlib.sha256(f"{space}\n{name}".encode()).hexdigest().encode()
