"""Codecs in which every picture stands alone."""

from __future__ import annotations

from model.inputs.bitstream.role import ENTRY, Inspector, Role


class IntraInspector(Inspector):
    """Every packet is an entry and nothing refers to it; an empty one repeats the last picture."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """The role of one picture."""
        return ENTRY if key and len(packet) else None
