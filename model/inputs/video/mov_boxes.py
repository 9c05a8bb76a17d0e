"""The boxes of an mp4, mov or HEIF file: what is there, and what is missing.

FFmpeg's own errors do not tell a picture from a video, or a segment from a damaged file.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.inputs.errors import (
    Encrypted,
    IsPicture,
    MissingBeginning,
    MissingIndex,
    TooManyStreams,
    VideoError,
)
from model.inputs.limits import VideoLimits
from model.inputs.video.source import SharedFile

# More boxes than this before the index are not looked through.
MOST_BOXES = 10_000
HEADER, LONG_HEADER = 8, 16
# The sample entry of an encrypted video, and how much of the index is searched for it.
ENCRYPTED_ENTRY, INDEX_BYTES = b"encv", 4 << 20


def check_not_a_picture(file: SharedFile) -> None:
    """Refuse HEIC and AVIF stills: a `meta` box that lists items, and no track."""
    kinds = _kinds(file)
    if "meta" in kinds and not kinds & {"moov", "moof"}:
        raise IsPicture


def explain_failure(file: SharedFile, limits: VideoLimits) -> VideoError | None:
    """Say why this file could not be opened, if its boxes tell."""
    kinds = _kinds(file)
    if "moov" not in kinds:
        if kinds & {"moof", "styp", "sidx"}:
            return MissingBeginning()
        return MissingIndex()
    begin, end = next((b, e) for kind, b, e in _boxes(file, 0, file.size) if kind == "moov")
    if ENCRYPTED_ENTRY in file.read_at(begin, min(end - begin, INDEX_BYTES)):
        return Encrypted()
    tracks = sum(kind == "trak" for kind, _, _ in _boxes(file, begin, end))
    return TooManyStreams(max_streams=limits.max_streams) if tracks > limits.max_streams else None


def is_cut_off(file: SharedFile) -> bool:
    """Return whether a file ends within a box of pictures or a fragment: a transfer broke off."""
    return any(
        kind in ("mdat", "moof") and end > file.size for kind, _, end in _boxes(file, 0, file.size)
    )


def has_second_movie(file: SharedFile) -> bool:
    """Return whether a second index follows: of another file that was joined to this one."""
    return sum(kind == "moov" for kind, _, _ in _boxes(file, 0, file.size)) > 1


def is_sequence_beside_picture(file: SharedFile) -> bool:
    """Return whether a file has items and an index: an animation beside a still of it."""
    return {"meta", "moov"} <= {kind for kind, _, _ in _boxes(file, 0, file.size)}


def _kinds(file: SharedFile) -> set[str]:
    """Return the kinds of the outermost boxes, as far as the index."""
    kinds: set[str] = set()
    for kind, _, _ in _boxes(file, 0, file.size):
        kinds.add(kind)
        if kind == "moov":
            break
    return kinds


def _boxes(file: SharedFile, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield the kind of each box between two offsets, and its contents' offsets, as it says."""
    for _ in range(MOST_BOXES):
        head = file.read_at(begin, LONG_HEADER)
        if begin + HEADER > end or len(head) < HEADER:
            return
        size, header = int.from_bytes(head[:4], "big"), HEADER
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), LONG_HEADER
        elif size == 0:
            size = end - begin
        if size < header:
            return
        yield head[4:8].decode("latin-1"), begin + header, begin + size
        begin += size
