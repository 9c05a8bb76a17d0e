"""H.264: key frames, recovery points and pictures that nothing refers to (ITU-T H.264, 7.3)."""

from __future__ import annotations

from model.inputs.video.bitstream.nal import NalError, ParameterSets, units
from model.inputs.video.bitstream.role import ENTRY, PLAIN, REFERENCE, Role

SLICE, IDR_SLICE, SEI, SPS, PPS = 1, 5, 6, 7, 8
DATA_PARTITIONS = frozenset((2, 3, 4))
RECOVERY_POINT = 6


def _begins_picture(byte: int) -> bool:
    """Tell whether a slice that begins with this byte opens a picture: macroblock 0, as Exp-Golomb
    one set bit, then a slice type from 0 to 9, whose code fits the seven bits left.
    """
    rest = byte & 0x7F
    return byte >= 0x80 and (rest >= 0b0010000 or 0b0001000 <= rest <= 0b0001010)


OPENS_PICTURE = frozenset(b for b in range(256) if _begins_picture(b))


class H264Inspector:
    """Roles of H.264 packets; `extradata` is an avcC box or start-coded parameter sets."""

    def __init__(self, extradata: bytes) -> None:
        self._sets = ParameterSets()
        self._length_size = 0
        if extradata[:1] == b"\x01" and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            self._read_avcc(extradata)

    def glance(self, head: bytes, size: int) -> Role | None:
        """Return a packet's role if its first bytes tell: one slice fills its `size` bytes."""
        if self._length_size != 4 or len(head) < 6 or int.from_bytes(head[:4], "big") + 4 != size:
            return None
        if head[4] & 0x9F != SLICE or head[5] not in OPENS_PICTURE:
            return None
        return REFERENCE if head[4] & 0x60 else PLAIN

    def __call__(self, packet: memoryview, key: bool) -> Role | None:
        """Return the role of one access unit."""
        try:
            return self._inspect(packet, key)
        except NalError:
            return None

    def _inspect(self, packet: memoryview, key: bool) -> Role | None:
        kinds: list[int] = []
        pictures = 0
        recovery = False
        for unit in units(packet, self._length_size):
            header = unit[0]
            kind = header & 0x1F
            if header & 0x80 or kind in DATA_PARTITIONS:
                return None
            if kind in (SLICE, IDR_SLICE):
                kinds.append(header & 0x7F)
                pictures += len(unit) > 1 and unit[1] in OPENS_PICTURE
            elif kind in (SPS, PPS):
                if not self._sets.add(unit):
                    return None
            elif kind == SEI and _exact_recovery_point(unit):
                recovery = True
        if pictures != 1 or len(set(kinds)) != 1:
            return None
        self._sets.close()
        role = REFERENCE if kinds[0] & 0x60 else PLAIN
        idr = kinds[0] & 0x1F == IDR_SLICE
        return role | ENTRY if idr or (key and recovery) else role

    def _read_avcc(self, box: bytes) -> None:
        position = 6
        for count in (box[5] & 0x1F, None):
            if count is None:
                count = box[position] if position < len(box) else 0
                position += 1
            for _ in range(count):
                size = int.from_bytes(box[position : position + 2], "big")
                self._sets.add(box[position + 2 : position + 2 + size])
                position += 2 + size


def _exact_recovery_point(sei: memoryview) -> bool:
    """Return a recovery point that holds at once (0 frames later) and exactly."""
    data = bytes(sei[1:])
    position = 0
    while position + 2 < len(data):
        kind = size = 0
        while position < len(data) and data[position] == 0xFF:
            kind, position = kind + 255, position + 1
        kind, position = kind + data[position], position + 1
        while position < len(data) and data[position] == 0xFF:
            size, position = size + 255, position + 1
        if position >= len(data):
            return False
        size, position = size + data[position], position + 1
        if kind == RECOVERY_POINT and position < len(data):
            # recovery_frame_cnt as Exp-Golomb 0 is one set bit; exact_match_flag is the next.
            return data[position] & 0xC0 == 0xC0
        position += size
    return False
