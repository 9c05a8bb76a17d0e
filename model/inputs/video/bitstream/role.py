"""What a packet is to the others.

Plain bits, not an enum: a two-hour file has hundreds of thousands of packets.
"""

from __future__ import annotations

from typing import Protocol

Role = int

HEAD_BYTES = 8

ENTRY = 1  # decoding may start here: what is shown from here on needs nothing before it
REFERENCE = 2  # later pictures may need it
HIDDEN = 4  # decoded, never shown
PLAIN = 0  # shown, and nothing refers to it


class Inspector(Protocol):
    """Looks at the packets of one stream in decoding order."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of this packet, or None if it is not one plain picture."""
        ...

    def glance(self, head: bytes, size: int) -> Role | None:
        """Return an ordinary packet's role by its first `HEAD_BYTES`; None: look at all of it."""
        return None
