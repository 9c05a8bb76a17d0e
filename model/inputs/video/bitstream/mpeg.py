"""MPEG-1, MPEG-2 and MPEG-4 part 2: one start code per picture, B pictures never referred to."""

from __future__ import annotations

import re

import numpy as np

from model.inputs.video.bitstream.role import ENTRY, PLAIN, REFERENCE, Inspector, Role

PICTURE = b"\x00\x00\x01\x00"
EXTENSION = b"\x00\x00\x01\xb5"
SLICE = re.compile(rb"\x00\x00\x01[\x01-\xaf]")
PICTURE_CODING_EXTENSION, QUANTISER_EXTENSION = 8, 3
FRAME_PICTURE = 3
SEQUENCE = b"\x00\x00\x01\xb3"
INTRA, PREDICTED, BIDIRECTIONAL = 1, 2, 3

VOP = b"\x00\x00\x01\xb6"
USER_DATA = b"\x00\x00\x01\xb2"
VOP_INTRA, VOP_PREDICTED, VOP_BIDIRECTIONAL = 0, 1, 2
# A placeholder of a packed stream or a repeated picture; a real one is larger.
SMALLEST_VOP = 8

# In more bytes than these numpy finds a start code in a third of the time that `bytes.find` takes.
MANY_BYTES = 1 << 14
# numpy looks at so many at once: what it notes takes a dozen times the bytes at worst.
BLOCK_BYTES = 1 << 20


class MpegInspector(Inspector):
    """Roles of MPEG-1 and MPEG-2 packets.

    Slices are nearly all of a packet. They are searched for another picture, but where the demuxer
    has `cut` the packets out of a stream: it ends each at the first start code behind its slices.
    """

    def __init__(self, cut: bool) -> None:
        self._cut = cut
        self._sequence: bytes | None = None

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one picture."""
        slices = SLICE.search(packet)
        end = slices.start() if slices else len(packet)
        headers = bytes(packet[:end])
        at = headers.find(PICTURE)
        if at < 0 or len(headers) < at + 6 or headers.find(PICTURE, at + 4) >= 0:
            return None
        if not self._cut and _has(PICTURE, packet[end:]):
            return None
        sequence = headers.find(SEQUENCE, 0, at)
        if not self._same_sequence(headers, sequence) or not _plain_frame(headers):
            return None
        kind = (headers[at + 5] >> 3) & 7
        if kind == INTRA:
            # Without its sequence header a decoder that starts here would know no picture size.
            return REFERENCE | ENTRY if key and sequence >= 0 else REFERENCE
        if kind == PREDICTED:
            return REFERENCE
        return PLAIN if kind == BIDIRECTIONAL else None

    def _same_sequence(self, headers: bytes, at: int) -> bool:
        if at < 0:
            return self._sequence is not None
        header = headers[at + 4 : at + 12]
        if self._sequence is None:
            self._sequence = header
        return header == self._sequence


def _plain_frame(headers: bytes) -> bool:
    """Tell whether it is a whole frame (MPEG-2 may code two fields apart) and changes no tables.

    Extensions stand between the header of a picture and its slices. FFmpeg heeds tables anywhere:
    where a demuxer has cut, those behind slices begin the next packet; else such are not seen.
    """
    extension = headers.find(EXTENSION)
    while extension >= 0:
        if len(headers) <= extension + 6:
            return False  # it would be read on into a slice
        kind = headers[extension + 4] >> 4
        if kind == QUANTISER_EXTENSION:
            return False
        if kind == PICTURE_CODING_EXTENSION and headers[extension + 6] & 3 != FRAME_PICTURE:
            return False
        extension = headers.find(EXTENSION, extension + 4)
    return True


class Mpeg4Inspector(Inspector):
    """Roles of MPEG-4 part 2 packets. Packed streams (two pictures in a packet) are not plain."""

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one picture."""
        at = bytes(packet[:MANY_BYTES]).find(VOP)
        if at < 0:
            at = bytes(packet).find(VOP)
        if at < 0 or len(packet) < at + SMALLEST_VOP or _has(VOP, packet[at + 4 :]):
            return None
        if b"DivX" in bytes(packet[:at]):
            return None
        kind = packet[at + 4] >> 6
        if kind == VOP_INTRA:
            return REFERENCE | ENTRY if key else REFERENCE
        if kind == VOP_PREDICTED:
            return REFERENCE
        return PLAIN if kind == VOP_BIDIRECTIONAL else None


def _has(code: bytes, data: memoryview) -> bool:
    if len(data) < MANY_BYTES:
        return code in bytes(data)
    reach = len(code) - 1
    blocks = range(0, len(data) - reach, BLOCK_BYTES)
    return any(_block_has(code, data[i : i + BLOCK_BYTES + reach]) for i in blocks)


def _block_has(code: bytes, data: memoryview) -> bool:
    codes = np.frombuffer(data, np.uint8)
    at = np.flatnonzero((codes[3:] == code[3]) & (codes[2:-1] == code[2]))
    return bool(((codes[at] == code[0]) & (codes[at + 1] == code[1])).any())
