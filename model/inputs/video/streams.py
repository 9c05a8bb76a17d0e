"""Which stream of a file is the film.

Files hold covers, thumbnails, previews and streams that never come beside it, in any order. The
film is told by what a stream holds: where there are several, their packets are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from av.stream import Disposition

from model.inputs.clip import VideoWarning
from model.inputs.errors import Encrypted, NoVideoStream, TooManyStreams, UnsupportedCodec
from model.inputs.limits import VideoLimits

DECODERS = frozenset(
    (
        *("av1", "cfhd", "cinepak", "dnxhd", "dvvideo", "ffv1", "ffvhuff", "flv", "gif", "h263"),
        *("h264", "hevc", "huffyuv", "libdav1d", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4"),
        *("msmpeg4", "msmpeg4v2", "png", "prores", "qtrle", "rawvideo", "svq1", "svq3", "theora"),
        *("v210", "vc1", "vp6", "vp6f", "vp8", "vp9", "wmv1", "wmv2", "wmv3"),
    )
)
# Pictures beside the film: covers, thumbnails, tiles of a larger picture.
NOT_A_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
# Streams of a broadcast take turns where a programme changes.
TAKING_TURNS = ("mpegts", "mpeg", "ogg")
MOST_TURNS = 8
# Against the fullest stream: one with fewer frames, or shorter, is something beside the film.
SHARE_OF_A_FILM = 0.5
ENCRYPTED_TAGS = ("encv", "drmi")
DOLBY_VISION_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
# Transfer characteristics (ITU-T H.273) of HDR: PQ and HLG.
HDR = (16, 18)

Packets = Callable[[Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Choice:
    """The numbers of the streams that make up the film, in the order in which they take turns, and
    what the sender is told of it.
    """

    streams: tuple[int, ...]
    warnings: tuple[VideoWarning, ...] = ()


@dataclass
class Contents:
    """What a stream holds: how many packets, the offsets in the file of the first and the last, and
    the seconds of the earliest and the latest.
    """

    packets: int = 0
    first: int = 0
    last: int = 0
    begin_s: float = 0.0
    end_s: float = 0.0

    @property
    def span_s(self) -> float:
        """Seconds from the earliest to the latest packet."""
        return self.end_s - self.begin_s


def films(container: Any, limits: VideoLimits) -> list[Any]:
    """Return the streams that may be the film. Raises a VideoError where there is none."""
    if len(container.streams) > limits.max_streams:
        raise TooManyStreams(max_streams=limits.max_streams)
    videos = container.streams.video
    result = [s for s in videos if not s.disposition & NOT_A_FILM]
    if not result:
        raise NoVideoStream
    return result


def choose(
    container: Any, demuxer: str, candidates: Sequence[Any], packets: Packets, limits: VideoLimits
) -> Choice:
    """Choose among several `candidates` by reading the file through.

    What holds most frames over the longest time wins; among equals the one that the file marks as
    its default, then the first. Streams of a broadcast that take turns are one film.
    """
    contents = _count(candidates, packets, limits)
    filled = [s for s in candidates if contents[s.index].packets] or list(candidates[:1])
    if demuxer in TAKING_TURNS and _take_turns(filled, contents):
        film: tuple[Any, ...] = tuple(sorted(filled, key=lambda s: contents[s.index].first))
    else:
        film = (_fullest(filled, contents),)
    left_out = [s for s in candidates if s not in film]
    warnings = (VideoWarning.STREAMS_LEFT_OUT,) if left_out else ()
    return Choice(tuple(s.index for s in film), warnings)


def check_codec(stream: Any, container: Any) -> None:
    """Refuse a stream that cannot be decoded here, by name."""
    context = stream.codec_context
    tag = (context.codec_tag if context is not None else "").strip()
    metadata = container.metadata.keys() | stream.metadata.keys()
    if tag in ENCRYPTED_TAGS or metadata & {"enc_key_id", "ASF_Protection_Type"}:
        raise Encrypted
    if context is None or context.name not in DECODERS:
        name = context.codec.canonical_name if context is not None else "unknown"
        raise UnsupportedCodec(codec=name)


def colour_warnings(context: Any) -> tuple[VideoWarning, ...]:
    """Return what the sender of a video with unusual colours is told."""
    if context.codec_tag in DOLBY_VISION_TAGS:
        return (VideoWarning.DOLBY_VISION,)
    return (VideoWarning.HDR,) if context.color_trc in HDR else ()


def _count(candidates: Sequence[Any], packets: Packets, limits: VideoLimits) -> dict[int, Contents]:
    contents = {stream.index: Contents() for stream in candidates}
    for number, packet in enumerate(packets(candidates)):
        if number > limits.max_frames * len(candidates):
            break
        one = contents[packet.stream_index]
        offset = packet.pos if packet.pos is not None else number
        label = packet.pts if packet.pts is not None else packet.dts
        second = one.end_s if label is None else float(label * packet.time_base)
        if not one.packets:
            one.first, one.begin_s, one.end_s = offset, second, second
        one.packets, one.last = one.packets + 1, offset
        one.begin_s, one.end_s = min(one.begin_s, second), max(one.end_s, second)
    return contents


def _take_turns(filled: Sequence[Any], contents: dict[int, Contents]) -> bool:
    """Return whether each stream begins in the file where the one before ended, in one codec."""
    order = sorted((contents[s.index] for s in filled), key=lambda c: c.first)
    codecs = {s.codec_context.name if s.codec_context is not None else None for s in filled}
    few = len(filled) <= MOST_TURNS
    return few and len(codecs) == 1 and all(a.last < b.first for a, b in pairwise(order))


def _fullest(filled: Sequence[Any], contents: dict[int, Contents]) -> Any:
    most = max(contents[s.index].packets for s in filled)
    longest = max(contents[s.index].span_s for s in filled)
    equals = [
        s
        for s in filled
        if contents[s.index].packets >= SHARE_OF_A_FILM * most
        and contents[s.index].span_s >= SHARE_OF_A_FILM * longest
    ] or [max(filled, key=lambda s: contents[s.index].span_s)]
    decodable = [s for s in equals if _is_decodable(s)] or equals
    return next((s for s in decodable if s.disposition & Disposition.default), decodable[0])


def _is_decodable(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in DECODERS
