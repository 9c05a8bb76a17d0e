"""What kind of file this is, read off its first bytes.

FFmpeg can guess too, but its guess runs the probes of several hundred demuxers, playlists and
network ones among them, and looks at names. Ours knows the containers that people send, never
looks at a name, and everything else is refused before any library sees it.
"""

from __future__ import annotations

from model.inputs.errors import IsPicture, MissingBeginning, NotAVideo, UnsupportedContainer
from model.inputs.video.source import SharedFile

HEAD_BYTES = 4096

# First bytes of a file, and the libavformat demuxer that reads it.
SIGNATURES = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"DKIF", "ivf"),
    (b"YUV4MPEG2 ", "yuv4mpegpipe"),
)
MOV_BOXES = frozenset(
    (
        *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"),
        *(b"styp", b"uuid", b"moof", b"sidx"),
    )
)
# Real videos in containers that we leave out: each demuxer more is a larger surface for attacks.
LEFT_OUT = (
    (b"\x06\x0e\x2b\x34", "MXF"),
    (b".RMF", "RealMedia"),
    (b"FWS", "Flash"),
    (b"CWS", "Flash"),
    (b"ZWS", "Flash"),
    (b"nut/multimedia", "NUT"),
    (b"\x1f\x07\x00", "raw-DV"),
)
# A cluster without its header: what a browser's recorder hands out after the first piece.
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
TS_PACKETS = (188, 192, 204)
JPEG, NEXT_JPEG = b"\xff\xd8\xff", b"\xff\xd9\xff\xd8\xff"
# A picture for three dimensions is two of them in one file.
FEWEST_JPEGS, JPEGS_BYTES = 3, 4 << 20


def sniff_demuxer(file: SharedFile) -> str:
    """Return a file's demuxer. Raises NotAVideo or UnsupportedContainer where there is none."""
    head = file.read_at(0, HEAD_BYTES)
    if head.startswith(JPEG):
        pictures = 1 + file.read_at(0, JPEGS_BYTES).count(NEXT_JPEG)
        if pictures >= FEWEST_JPEGS:
            return "mjpeg"
    return demuxer_for(head)


def demuxer_for(head: bytes) -> str:
    """Return the demuxer for a file that begins with `head`: `HEAD_BYTES`, or the whole file."""
    for magic, name in SIGNATURES:
        if head.startswith(magic):
            return name
    if head[4:8] in MOV_BOXES:
        return "mov"
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if head.startswith(PICTURES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        raise IsPicture
    if head.startswith(MATROSKA_CLUSTER):
        raise MissingBeginning
    for magic, container in LEFT_OUT:
        if head.startswith(magic):
            raise UnsupportedContainer(container=container)
    demuxer = _start_code_demuxer(head)
    if demuxer is None and not _is_transport_stream(head):
        raise NotAVideo
    return demuxer or "mpegts"


def _start_code_demuxer(head: bytes) -> str | None:
    """Tell MPEG program streams and bare H.264, HEVC or MPEG video by 00 00 01 and a code."""
    after_zeros = head.lstrip(b"\0")
    if len(head) - len(after_zeros) < 2 or len(after_zeros) < 3 or after_zeros[0] != 1:
        return None
    code, following = after_zeros[1], after_zeros[2]
    if code == 0xBA:
        return "mpeg"
    if code == 0xB3:
        return "mpegvideo"
    if code == 0xB0 or code <= 0x05 or 0x20 <= code <= 0x25:
        return "m4v"
    if following == 0x01 and code in (0x40, 0x42, 0x46, 0x4E):
        return "hevc"
    if code in (0x06, 0x09, 0x27, 0x47, 0x67):
        return "h264"
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Return whether the sync byte stands at a fixed distance, perhaps after a few other bytes."""
    for size in TS_PACKETS:
        for first in range(min(size, len(head))):
            marks = head[first::size]
            # One in four may be damaged: recordings off the air are.
            if len(marks) >= 5 and marks.count(0x47) * 4 >= len(marks) * 3:
                return True
    return False
