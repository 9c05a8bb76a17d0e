"""How a file ends: within its video, because a transfer broke off, or with a second file behind it,
where somebody joined files byte by byte. FFmpeg's demuxers pass over both without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from model.inputs.video import ebml, mov_boxes
from model.inputs.video.source import SharedFile

FLV_HEADER, FLV_TAG, FLV_BACK_POINTER = 9, 11, 4
FLV_KINDS = (8, 9, 18)
READ_AHEAD = 1 << 16
# More tags than this are not looked through.
MOST_TAGS = 200_000


class End(Enum):
    """Where a file ends."""

    WHOLE = "with its video"
    CUT_OFF = "within its video"
    JOINED = "behind a second file"


def end_of(demuxer: str, file: SharedFile) -> End:
    """Return where a file ends, as far as its container tells."""
    look = ENDS.get(demuxer)
    return look(file) if look is not None else End.WHOLE


def _end_of_mov(file: SharedFile) -> End:
    if mov_boxes.has_second_movie(file):
        return End.JOINED
    return End.CUT_OFF if mov_boxes.is_cut_off(file) else End.WHOLE


def _end_of_matroska(file: SharedFile) -> End:
    return End.CUT_OFF if ebml.is_cut_off(file) else End.WHOLE


def _end_of_avi(file: SharedFile) -> End:
    """Look at the size of the first chunk; files of more than a gigabyte have others behind it."""
    size = int.from_bytes(file.read_at(4, 4), "little")
    if size in (0, 0xFFFFFFFF):
        return End.WHOLE  # written as it was recorded: nobody came back to fill it in
    return End.CUT_OFF if 8 + size > file.size else End.WHOLE


def _end_of_flv(file: SharedFile) -> End:
    """Go from tag to tag."""
    position = int.from_bytes(file.read_at(5, 4), "big") + FLV_BACK_POINTER
    start, ahead = 0, b""
    for _ in range(MOST_TAGS):
        if not start <= position <= start + len(ahead) - FLV_TAG:
            start, ahead = position, file.read_at(position, READ_AHEAD)
        tag = ahead[position - start : position - start + FLV_TAG]
        if not tag:
            return End.WHOLE
        if tag.startswith(b"FLV\x01"):
            return End.JOINED
        if len(tag) == FLV_TAG and tag[0] & 0x1F not in FLV_KINDS:
            return End.WHOLE  # damage, which is not what is looked for here
        position += FLV_TAG + int.from_bytes(tag[1:4], "big") + FLV_BACK_POINTER
        if len(tag) < FLV_TAG or position > file.size:
            return End.CUT_OFF
    return End.WHOLE


ENDS: Mapping[str, Callable[[SharedFile], End]] = {
    "mov": _end_of_mov,
    "matroska": _end_of_matroska,
    "avi": _end_of_avi,
    "flv": _end_of_flv,
}
