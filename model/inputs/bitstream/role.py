"""What a packet is to the others."""

from __future__ import annotations

from enum import IntFlag
from typing import Protocol


class Role(IntFlag):
    """Flags of one packet that holds exactly one coded picture."""

    NONE = 0
    ENTRY = 1  # decoding may start here: what is shown from here on needs nothing before it
    REFERENCE = 2  # later pictures may need it
    HIDDEN = 4  # decoded, never shown


class Inspector(Protocol):
    """Looks at the packets of one stream in decoding order."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """The role of this packet, or None if it is not one plain picture."""
        ...
