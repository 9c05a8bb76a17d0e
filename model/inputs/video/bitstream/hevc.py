"""HEVC: random access points and pictures that nothing refers to (ITU-T H.265, 7.3 and 7.4.2)."""

from __future__ import annotations

from model.inputs.video.bitstream.nal import NalError, ParameterSets, units
from model.inputs.video.bitstream.role import ENTRY, HIDDEN, PLAIN, REFERENCE, Role

RASL = (8, 9)
FIRST_RANDOM_ACCESS, LAST_RANDOM_ACCESS = 16, 21
CRA, BLA_LAST = 21, 18
LAST_PICTURE = 31
VPS, SPS, PPS = 32, 33, 34
END_OF_SEQUENCE, END_OF_STREAM = 36, 37
FIRST_SLICE, NO_OUTPUT_OF_PRIOR = 0x80, 0x40
SUB_LAYER_NON_REFERENCE = frozenset((0, 2, 4, 6, 8, 10, 12, 14))


class HevcInspector:
    """Roles of HEVC packets; `extradata` is an hvcC box or start-coded parameter sets."""

    def __init__(self, extradata: bytes) -> None:
        self._sets = ParameterSets()
        self._length_size = 0
        self._plain = True
        self._started = False
        self._skipping = False
        if extradata[:1] == b"\x01" and len(extradata) > 22:
            self._length_size = (extradata[21] & 3) + 1
            self._read_hvcc(extradata)

    def glance(self, head: bytes, size: int) -> Role | None:
        """Return a packet's role if its first bytes tell: one slice fills its `size` bytes."""
        if self._length_size != 4 or len(head) < 7 or int.from_bytes(head[:4], "big") + 4 != size:
            return None
        kind = head[4] >> 1
        if kind >= FIRST_RANDOM_ACCESS or head[5] != 1 or not head[6] & FIRST_SLICE:
            return None
        return self._role(kind, False) if self._started and self._plain else None

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one access unit."""
        try:
            role = self._inspect(packet)
        except (NalError, IndexError):
            return None
        return role if self._plain else None

    def _inspect(self, packet: memoryview) -> Role | None:
        headers: set[int] = set()
        pictures = 0
        flags = 0
        for unit in units(packet, self._length_size):
            kind = unit[0] >> 1
            if unit[0] & 0x80 or len(unit) < 3:
                return None
            if kind <= LAST_PICTURE:
                # A temporal layer above the lowest: who refers to whom needs more than this.
                if unit[1] != 1:
                    return None
                headers.add(kind)
                pictures += bool(unit[2] & FIRST_SLICE)
                flags |= unit[2]
            elif kind in (VPS, SPS, PPS):
                if not self._add_set(kind, unit):
                    return None
            elif kind in (END_OF_SEQUENCE, END_OF_STREAM):
                return None
        if pictures != 1 or len(headers) != 1:
            return None
        self._sets.close()
        return self._role(headers.pop(), bool(flags & NO_OUTPUT_OF_PRIOR))

    def _role(self, kind: int, no_output_of_prior: bool) -> Role | None:
        random_access = FIRST_RANDOM_ACCESS <= kind <= LAST_RANDOM_ACCESS
        if not self._started:
            if not random_access:
                return None
            self._started = True
            self._skipping = kind == CRA or kind <= BLA_LAST
        elif random_access:
            self._skipping = kind <= BLA_LAST
            if no_output_of_prior:
                return None
        role = PLAIN if kind in SUB_LAYER_NON_REFERENCE else REFERENCE
        if kind in RASL and self._skipping:
            # These lead in a point where decoding begins and refer to pictures before it.
            role |= HIDDEN
        return role | ENTRY if random_access else role

    def _add_set(self, kind: int, unit: memoryview | bytes) -> bool:
        if kind == PPS and _may_hide_pictures(bytes(unit[2:10])):
            self._plain = False
        return self._sets.add(unit)

    def _read_hvcc(self, box: bytes) -> None:
        position = 23
        for _ in range(box[22]):
            kind = box[position] & 0x3F if position < len(box) else 0
            count = int.from_bytes(box[position + 1 : position + 3], "big")
            position += 3
            for _ in range(count):
                if position >= len(box):
                    return
                size = int.from_bytes(box[position : position + 2], "big")
                self._add_set(kind, box[position + 2 : position + 2 + size])
                position += 2 + size


def _may_hide_pictures(pps: bytes) -> bool:
    """Read output_flag_present_flag: slices can then say that their picture is not shown."""
    bits = "".join(f"{byte:08b}" for byte in pps)
    for _ in range(2):  # pps id and sps id, Exp-Golomb
        zeros = bits.find("1")
        if zeros < 0:
            return True
        bits = bits[2 * zeros + 1 :]
    return bits[1:2] != "0"
