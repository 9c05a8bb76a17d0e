"""Open a stranger's file with PyAV so that nothing but its own bytes is read.

Each setting closes a hole that was measured: a file object without a name (names pick demuxers
and open neighbours), one demuxer chosen from the content, no protocols, known decoders only, and
limits given twice because the demuxer's options never reach the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av

# PyAV imports these when a file first has such a stream: in a sandbox that would be too late.
import av.audio.codeccontext
import av.audio.stream
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle
import av.video.codeccontext
import av.video.stream
from av.stream import Discard, Disposition

from model.inputs.errors import (
    NoVideoStream,
    TooLarge,
    TooManyStreams,
    Undecodable,
    Unreadable,
    UnsupportedCodec,
)
from model.inputs.limits import VideoLimits
from model.inputs.video.container_sniffer import HEAD_BYTES, demuxer_for
from model.inputs.video.source import FileView, SharedFile

DECODERS = frozenset(
    (
        *("av1", "cinepak", "dnxhd", "ffv1", "ffvhuff", "flv", "gif", "h263", "h264", "hevc"),
        *("huffyuv", "libdav1d", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4"),
        *("msmpeg4v2", "prores", "qtrle", "rawvideo", "svq1", "svq3", "theora", "vc1", "vp6"),
        *("vp6f", "vp8", "vp9", "wmv1", "wmv2", "wmv3"),
    )
)
# Streams that hold pictures beside the video: covers, thumbnails, stills.
NOT_THE_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
READ_BYTES = 1 << 18

# What bad input makes the library raise: its own errors, and Python's where numbers make no sense.
# Opening reads names and tables besides, which fail in more ways.
LIBRARY_ERRORS = (av.FFmpegError, OSError, ArithmeticError, MemoryError)
OPENING_ERRORS = (*LIBRARY_ERRORS, ValueError, LookupError)


@dataclass(frozen=True)
class OpenVideo:
    """An opened file and the one stream that is looked at."""

    demuxer: str
    source: SharedFile
    container: Any
    stream: Any
    context: Any

    @property
    def codec(self) -> str:
        """The name of the decoder, as the client is told."""
        name: str = self.context.codec.canonical_name
        return name

    @property
    def frame_step_s(self) -> float:
        """Nominal seconds per frame, for frames that carry no time."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(1 / rate) if rate else 1 / 25

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the stream's clock."""
        return Fraction(self.stream.time_base or Fraction(1, 1000))

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height; 1 where the file does not say."""
        aspect = self.stream.sample_aspect_ratio or self.context.sample_aspect_ratio
        return Fraction(aspect) if aspect else Fraction(1)


@contextmanager
def open_video(
    source: BinaryIO | SharedFile, limits: VideoLimits, threads: int = 1
) -> Iterator[OpenVideo]:
    """Open `source` and choose its video: the first stream that is one and has a known decoder.

    Raises a VideoError; library errors inside the block become one too.
    """
    shared = source if isinstance(source, SharedFile) else SharedFile(source)
    demuxer = demuxer_for(shared.read_at(0, HEAD_BYTES))
    try:
        container = av.open(
            FileView(shared),
            mode="r",
            format=demuxer,
            options=_open_options(demuxer, limits),
            metadata_errors="replace",
            buffer_size=READ_BYTES,
        )
    except OPENING_ERRORS as error:
        raise Unreadable from error
    try:
        with container:
            stream = _choose_stream(container, limits)
            check_picture(stream.codec_context.width, stream.codec_context.height, limits)
            _prepare(container, stream, limits, threads)
            yield OpenVideo(demuxer, shared, container, stream, stream.codec_context)
    except LIBRARY_ERRORS as error:
        raise Undecodable from error


def check_picture(width: int, height: int, limits: VideoLimits) -> None:
    """Refuse a picture over the limits; called for the header and again for every frame."""
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise TooLarge(
            width=width, height=height, max_pixels=limits.max_pixels, max_side=limits.max_side
        )


def _open_options(demuxer: str, limits: VideoLimits) -> dict[str, str]:
    return {
        "protocol_whitelist": "",
        "format_whitelist": demuxer,
        "codec_whitelist": ",".join(sorted(DECODERS)),
        "max_pixels": str(limits.max_pixels),
        # One more than allowed, so that the surplus stream can be named.
        "max_streams": str(limits.max_streams + 1),
        "threads": "1",
    }


def _choose_stream(container: Any, limits: VideoLimits) -> Any:
    if len(container.streams) > limits.max_streams:
        raise TooManyStreams(max_streams=limits.max_streams)
    videos = [s for s in container.streams.video if not s.disposition & NOT_THE_VIDEO]
    if not videos:
        raise NoVideoStream
    for stream in videos:
        if stream.codec_context is not None and stream.codec_context.name in DECODERS:
            return stream
    raise UnsupportedCodec


def _prepare(container: Any, stream: Any, limits: VideoLimits, threads: int) -> None:
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    context = stream.codec_context
    context.options = {"max_pixels": str(limits.max_pixels)}
    context.thread_count = threads
    context.thread_type = "FRAME" if threads > 1 else "SLICE"
