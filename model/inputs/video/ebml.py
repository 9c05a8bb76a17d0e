"""The elements of a Matroska or WebM file (RFC 8794, RFC 9559), as far as they are asked about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from model.inputs.video.source import SharedFile

SEGMENT, CLUSTER, TRACKS, TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
CONTENT_ENCODINGS, CONTENT_ENCODING, CONTENT_ENCRYPTION = 0x6D80, 0x6240, 0x5035
# An identifier of up to four bytes, and a size of up to eight.
HEADER_BYTES = 12
# More elements of one parent than this are not looked through.
MOST_ELEMENTS = 10_000


class Element(NamedTuple):
    """Where the contents of an element begin and end in the file; `end` is None where it does not
    say.
    """

    kind: int
    begin: int
    end: int | None


def is_cut_off(file: SharedFile) -> bool:
    """Return whether a file ends within its segment or a cluster: a transfer broke off."""
    segment = _first(file, SEGMENT, 0, file.size)
    if segment is None:
        return False
    if segment.end is not None:
        return segment.end > file.size
    clusters = (e for e in _elements(file, segment.begin, file.size) if e.kind == CLUSTER)
    return any(cluster.end is not None and cluster.end > file.size for cluster in clusters)


def is_encrypted(file: SharedFile) -> bool:
    """Return whether a track's contents are encrypted."""
    segment = _first(file, SEGMENT, 0, file.size)
    tracks = segment and _first(file, TRACKS, segment.begin, file.size)
    if not tracks:
        return False
    for track in _elements(file, tracks.begin, tracks.end or file.size):
        within: Element | None = track
        for kind in (CONTENT_ENCODINGS, CONTENT_ENCODING, CONTENT_ENCRYPTION):
            within = within and _first(file, kind, within.begin, within.end or file.size)
        if track.kind == TRACK and within:
            return True
    return False


def _first(file: SharedFile, kind: int, begin: int, end: int) -> Element | None:
    return next((e for e in _elements(file, begin, end) if e.kind == kind), None)


def _elements(file: SharedFile, begin: int, end: int) -> Iterator[Element]:
    """Yield the elements between two offsets, up to one that does not say where it ends."""
    for _ in range(MOST_ELEMENTS):
        head = file.read_at(begin, HEADER_BYTES)
        if begin >= end or not head or not head[0]:
            return
        kind_bytes = 9 - head[0].bit_length()
        rest = head[kind_bytes:]
        if kind_bytes > 4 or not rest or not rest[0]:
            return
        size_bytes = 9 - rest[0].bit_length()
        if len(rest) < size_bytes:
            return
        unknown = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(rest[:size_bytes], "big") & unknown
        contents = begin + kind_bytes + size_bytes
        kind = int.from_bytes(head[:kind_bytes], "big")
        yield Element(kind, contents, None if size == unknown else contents + size)
        if size == unknown:
            return
        begin = contents + size
