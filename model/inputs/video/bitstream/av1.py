"""AV1: key frames, and pictures that leave nothing behind (AV1 specification, 5.5, 5.9 and 7.20).

All that a picture hands on, its samples, motion and statistics alike, lies in the slots that its
header names (`refresh_frame_flags`). One that names none may be left out: of what SVT-AV1 makes
in layers a quarter of the units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.inputs.video.bitstream.role import ENTRY, PLAIN, REFERENCE, Inspector, Role

OBU_SEQUENCE_HEADER, OBU_FRAME_HEADER, OBU_FRAME = 1, 3, 6
INTER_FRAME = 1
SELECT = 2  # each picture says for itself
HEADER_BYTES = 128  # more than what is read of a header
BOX_HEADER, BOX_HEADER_BYTES = 0x81, 4  # of an av1C box, before its OBUs


class Av1Inspector(Inspector):
    """Roles of AV1 temporal units: whole OBUs with at least one frame; each shows one picture."""

    def __init__(self, extradata: bytes) -> None:
        self._sequence: Sequence | None = None
        boxed = extradata[:1] == bytes([BOX_HEADER])
        for kind, payload, _ in _units(memoryview(extradata)[BOX_HEADER_BYTES if boxed else 0 :]):
            if kind == OBU_SEQUENCE_HEADER:
                self._sequence = _sequence(payload)

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one temporal unit."""
        frames, is_plain, read = 0, not key, 0
        for kind, payload, end in _units(packet):
            read = end
            if kind == OBU_SEQUENCE_HEADER:
                self._sequence = _sequence(payload)
                is_plain = False
            elif kind in (OBU_FRAME_HEADER, OBU_FRAME):
                frames += 1
                is_plain = is_plain and _leaves_nothing(payload, self._sequence)
        if not frames or read != len(packet):
            return None
        if key:
            return REFERENCE | ENTRY
        return PLAIN if is_plain else REFERENCE


@dataclass(frozen=True)
class Sequence:
    """What the header of a sequence says of the headers of its pictures."""

    screen_content: int
    integer_motion: int
    id_bits: int
    order_bits: int


class _Bits:
    """Reads unsigned numbers from the front of some bytes; EOFError behind their end."""

    def __init__(self, data: memoryview) -> None:
        front = data[:HEADER_BYTES]
        self._value, self._left = int.from_bytes(front), 8 * len(front)

    def read(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << count) - 1


def _units(data: memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Yield type, payload and end of each OBU, as far as they are well formed.

    Of one that belongs to a layer of several the payload is left out.
    """
    position = 0
    while position < len(data):
        header = data[position]
        layered = header & 0x04
        if header & 0x81 or not header & 0x02:
            return
        size, first = _leb128(data, position + (2 if layered else 1))
        position = first + size
        if position > len(data):
            return
        yield header >> 3 & 0x0F, data[first : first if layered else position], position


def _sequence(data: memoryview) -> Sequence | None:
    """Return what a sequence header says; None where it has what is not looked at here."""
    bits = _Bits(data)
    try:
        return _read_sequence(bits)
    except EOFError:
        return None


def _read_sequence(bits: _Bits) -> Sequence | None:
    bits.read(3 + 1)  # seq_profile, still_picture
    if bits.read(1):  # reduced_still_picture_header
        return None
    if bits.read(1) and not _skip_timing(bits):
        return None
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):  # operating points
        if bits.read(12):  # of several layers
            return None
        if bits.read(5) > 7:  # seq_level_idx
            bits.read(1)  # seq_tier
        if has_delay and bits.read(1):
            bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits)
    bits.read(height_bits)
    id_bits = bits.read(4) + 2 + bits.read(3) + 1 if bits.read(1) else 0
    # 128x128 blocks and two filters; four ways of prediction.
    bits.read(3 + 4)
    has_order = bits.read(1)
    if has_order:
        bits.read(2)
    screen_content = SELECT if bits.read(1) else bits.read(1)
    integer_motion = SELECT
    if screen_content:
        integer_motion = SELECT if bits.read(1) else bits.read(1)
    order_bits = bits.read(3) + 1 if has_order else 0
    return Sequence(screen_content, integer_motion, id_bits, order_bits)


def _skip_timing(bits: _Bits) -> bool:
    """Pass over timing_info; tell whether no model of a decoder follows."""
    bits.read(32 + 32)
    if bits.read(1):  # equal_picture_interval: a number in variable length
        zeros = 0
        while not bits.read(1):
            zeros += 1
        bits.read(zeros)
    return not bits.read(1)


def _leaves_nothing(data: memoryview, sequence: Sequence | None) -> bool:
    """Tell whether a frame header names no slot to be filled; False where it does not tell."""
    if sequence is None:
        return False
    try:
        return _read_refresh(_Bits(data), sequence) == 0
    except EOFError:
        return False


def _read_refresh(bits: _Bits, sequence: Sequence) -> int | None:
    """Return `refresh_frame_flags` of an inter frame; None for any other."""
    if bits.read(1):  # show_existing_frame: a key frame fills all slots
        return None
    kind, is_shown = bits.read(2), bits.read(1)
    if kind != INTER_FRAME:
        return None
    if not is_shown:
        bits.read(1)  # showable_frame
    is_resilient = bits.read(1)
    bits.read(1)  # disable_cdf_update
    screen_content = sequence.screen_content
    if screen_content == SELECT:
        screen_content = bits.read(1)
    if screen_content and sequence.integer_motion == SELECT:
        bits.read(1)
    bits.read(sequence.id_bits)
    bits.read(1)  # frame_size_override_flag
    bits.read(sequence.order_bits)
    if not is_resilient:
        bits.read(3)  # primary_ref_frame
    return bits.read(8)


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        if position >= len(data):
            return 1 << 32, position
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            break
    return value, position
