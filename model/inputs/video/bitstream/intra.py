"""Codecs in which every picture stands alone."""

from __future__ import annotations

from model.inputs.video.bitstream.role import ENTRY, Inspector, Role

PRORES_FRAME = b"icpf"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class IntraInspector(Inspector):
    """Every packet is an entry and nothing refers to it; an empty one repeats the last picture."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one picture."""
        return ENTRY if key and len(packet) else None


class ProResInspector(IntraInspector):
    """ProRes: a picture states its own size, which tells one that is cut off or shifted."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one picture."""
        size = int.from_bytes(packet[:4], "big")
        if size != len(packet) or packet[4:8] != PRORES_FRAME:
            return None
        return super().__call__(packet, key)


class JpegInspector(IntraInspector):
    """Motion JPEG: where a picture is cut off, the decoder shows the rest of an earlier one."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one picture."""
        data = bytes(packet)
        if not data.startswith(JPEG_START) or not data.rstrip(b"\0").endswith(JPEG_END):
            return None
        return super().__call__(packet, key)
