"""VP8 and VP9: hidden pictures, and key frames that start afresh.

Even a picture that nothing shows or copies from may carry statistics which later ones are coded
with, so none of these may be left out between an entry and a sampled picture.
"""

from __future__ import annotations

from model.inputs.video.bitstream.role import ENTRY, HIDDEN, REFERENCE, Inspector, Role


class Vp8Inspector(Inspector):
    """Roles of VP8 packets (RFC 6386, 9.1)."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one frame."""
        if len(packet) < 10:
            return None
        inter = packet[0] & 1
        if inter == key or (not inter and bytes(packet[3:6]) != b"\x9d\x01\x2a"):
            return None
        role = REFERENCE if packet[0] & 0x10 else REFERENCE | HIDDEN
        return role if inter else role | ENTRY


class Vp9Inspector(Inspector):
    """Roles of VP9 packets: plain frames, and superframes of hidden frames and a shown one."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one superframe."""
        frames = _superframe(packet)
        if frames is None:
            return None
        shown = [_vp9_shown(frame) for frame in frames]
        if None in shown or sum(bool(s) for s in shown) > 1:
            return None
        role = REFERENCE if any(shown) else REFERENCE | HIDDEN
        if not key:
            return role
        return role | ENTRY if _vp9_key(frames[0]) else None


def _superframe(packet: memoryview) -> list[memoryview] | None:
    """Return the frames that the index at the end of a packet lists (VP9 bitstream, annex B)."""
    if not len(packet):
        return None
    marker = packet[-1]
    if marker & 0xE0 != 0xC0:
        return [packet]
    count, width = (marker & 7) + 1, ((marker >> 3) & 3) + 1
    index = 2 + count * width
    if len(packet) < index or packet[-index] != marker:
        return [packet]
    frames, position = [], 0
    for i in range(count):
        first = len(packet) - index + 1 + i * width
        size = int.from_bytes(packet[first : first + width], "little")
        if not size or position + size > len(packet) - index:
            return None
        frames.append(packet[position : position + size])
        position += size
    return frames


def _vp9_shown(frame: memoryview) -> bool | None:
    bits = frame[0]
    profile = (bits >> 5 & 1) | (bits >> 3 & 2)
    if bits >> 6 != 2 or profile == 3:
        return None
    # show_existing_frame, then frame_type, then show_frame
    return True if bits & 0x08 else bool(bits & 0x02)


def _vp9_key(frame: memoryview) -> bool:
    return frame[0] & 0x0C == 0 and bytes(frame[1:4]) == b"\x49\x83\x42"
