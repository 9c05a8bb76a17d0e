"""What in a file tells that its video is encrypted, where FFmpeg does not say so: it gives up, or
hands out noise.
"""

from __future__ import annotations

from model.inputs.video import ebml
from model.inputs.video.source import SharedFile

# Content Encryption Object and Extended Content Encryption Object of an ASF header.
ASF_OBJECTS = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
ASF_HEADER_BYTES = 1 << 16
TS_PACKET, TS_SYNC, TS_BYTES = 188, 0x47, 1 << 20
PROGRAMME_ASSOCIATION, NULL_PACKETS = 0, 0x1FFF
SCRAMBLED, PAYLOAD = 0xC0, 0x10


def is_encrypted(demuxer: str, file: SharedFile) -> bool:
    """Return whether the file tells that its video is encrypted; False where it does not tell."""
    if demuxer == "asf":
        header = file.read_at(0, ASF_HEADER_BYTES)
        return any(kind in header for kind in ASF_OBJECTS)
    if demuxer == "matroska":
        return ebml.is_encrypted(file)
    return demuxer == "mpegts" and _is_scrambled(file)


def _is_scrambled(file: SharedFile) -> bool:
    """Return whether most packets of a transport stream that carry something are scrambled."""
    data = file.read_at(0, TS_BYTES)
    first = data.find(TS_SYNC)
    if first < 0:
        return False
    scrambled = carrying = 0
    for position in range(first, len(data) - 3, TS_PACKET):
        sync, high, low, flags = data[position : position + 4]
        pid = (high & 0x1F) << 8 | low
        if sync != TS_SYNC or not flags & PAYLOAD or pid in (PROGRAMME_ASSOCIATION, NULL_PACKETS):
            continue
        carrying += 1
        scrambled += bool(flags & SCRAMBLED)
    return 2 * scrambled > carrying
