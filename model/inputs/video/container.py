"""Open a stranger's file with PyAV so that nothing but its own bytes is read.

Each setting closes a hole that was measured: a file object without a name (names pick demuxers
and open neighbours), one demuxer chosen from the content, no protocols, known decoders only, and
limits given twice because the demuxer's options never reach the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from av.stream import Discard

from model.inputs.clip import VideoWarning
from model.inputs.errors import (
    Encrypted,
    NoVideoStream,
    TooLarge,
    Undecodable,
    Unreadable,
    UnsupportedCodec,
)
from model.inputs.limits import VideoLimits
from model.inputs.video.container_sniffer import sniff_demuxer
from model.inputs.video.encryption import is_encrypted
from model.inputs.video.file_end import End, end_of
from model.inputs.video.mov_boxes import (
    check_not_a_picture,
    explain_failure,
    is_sequence_beside_picture,
)
from model.inputs.video.source import FileView, SharedFile
from model.inputs.video.streams import (
    DECODERS,
    Choice,
    check_codec,
    choose,
    colour_warnings,
    films,
)
from model.inputs.video.timeline import Clock

READ_BYTES = 1 << 18

# What bad input makes the library raise: its own errors, and Python's where numbers make no sense.
# Opening reads names and tables besides, which fail in more ways.
LIBRARY_ERRORS = (av.FFmpegError, OSError, ArithmeticError, MemoryError)
OPENING_ERRORS = (*LIBRARY_ERRORS, ValueError, LookupError)

# Pixels below which the threads of libdav1d wait for each other longer than they save: with two,
# 340x256 takes 1.05 of the time that one takes, 480x360 takes 0.97 of it.
ALONE_BELOW = 400 * 300
# A camera that is switched on late: sound alone for so long (microseconds).
PROBING = {"flv": {"analyzeduration": str(1800 * 1_000_000)}}
# Containers that describe their streams fully: what is missing is read off the first pictures'
# headers, without decoding them. Of VP9 nothing is missing, and its decoder, which would decode the
# first picture all the same (180 ms at 4K), is not let at it.
DESCRIBED = {"mov": DECODERS, "matroska": frozenset(("vp9",))}
EAGER = frozenset(("vp9",))
VP9_HIGH_DEPTH = ("Profile 2", "Profile 3")
# Of these a file is encrypted that says so; of others one that cannot be decoded and looks like it.
DECLARING_ENCRYPTION = ("matroska", "asf")
# Broadcasts and their recordings have no pauses: a longer step is a programme that changed.
LONGEST_PAUSE_S = {"mpegts": 10.0, "mpeg": 10.0}


@dataclass(frozen=True)
class OpenVideo:
    """An opened file and the stream that is looked at; `choice` may name more that follow it."""

    demuxer: str
    source: SharedFile
    container: Any
    stream: Any
    context: Any
    choice: Choice
    limits: VideoLimits
    interrupt: Callable[[], None]

    @property
    def codec(self) -> str:
        """The name of the codec, as the client is told."""
        name: str = self.context.codec.canonical_name
        return name

    @property
    def depth(self) -> int:
        """Bits of a sample, by the profile where the file does not tell before pictures decode."""
        if self.context.format is not None:
            return max(component.bits for component in self.context.format.components)
        profile = self.context.profile or ""
        return 10 if "10" in profile or profile in VP9_HIGH_DEPTH else 8

    @property
    def warnings(self) -> tuple[VideoWarning, ...]:
        """What the client is told of this file."""
        end = end_of(self.demuxer, self.source)
        return (
            *self.choice.warnings,
            *colour_warnings(self.context),
            *((VideoWarning.CUT_OFF,) if end is End.CUT_OFF else ()),
            *((VideoWarning.JOINED,) if end is End.JOINED else ()),
        )

    @property
    def clock(self) -> Clock:
        """The clock of the stream."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return Clock(
            Fraction(self.stream.time_base or Fraction(1, 1000)),
            float(1 / rate) if rate else 1 / 25,
            LONGEST_PAUSE_S.get(self.demuxer, 60.0),
        )

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height; 1 where the file does not say."""
        aspect = self.stream.sample_aspect_ratio or self.context.sample_aspect_ratio
        return aspect or Fraction(1)


@contextmanager
def open_video(
    source: BinaryIO | SharedFile,
    limits: VideoLimits,
    threads: int = 1,
    choice: Choice | None = None,
    *,
    probe: bool = False,
    interrupt: Callable[[], None] = lambda: None,
) -> Iterator[OpenVideo]:
    """Open `source` and its film.

    Args:
        source: The file.
        limits: How large the clip may be.
        threads: Threads of the decoder.
        choice: That of an earlier opening.
        probe: Decode the first pictures where the container describes its streams, too: what the
            codec's own headers leave open is learned from these alone.
        interrupt: Called before each packet is read or decoded; what it raises ends the reading.

    Raises:
        VideoError: The file cannot be used; library errors inside the block become one too.
    """
    shared = source if isinstance(source, SharedFile) else SharedFile(source)
    demuxer = sniff_demuxer(shared)
    if demuxer == "mov":
        check_not_a_picture(shared)
    try:
        if choice is None:
            with _opened(shared, demuxer, limits, probe) as container:
                candidates = films(container, limits)
                if len(candidates) == 1:
                    choice = Choice((candidates[0].index,))
                    yield _prepared(shared, demuxer, container, choice, limits, threads, interrupt)
                    return
                choice = _choose(container, shared, demuxer, candidates, limits)
        with _opened(shared, demuxer, limits, probe) as container:
            yield _prepared(shared, demuxer, container, choice, limits, threads, interrupt)
    except LIBRARY_ERRORS as error:
        raise Undecodable from error
    except (Undecodable, NoVideoStream, UnsupportedCodec) as error:
        if is_encrypted(demuxer, shared):
            raise Encrypted from error
        raise


def packets_of(video: OpenVideo) -> Iterator[Any]:
    """Yield the coded packets of the film, in file order; the flush packets are left out.

    Of streams that take turns the last packet of one may be read long after the next one has begun,
    so each is read by itself.
    """
    yield from _packets(video.container, [video.stream], video.interrupt)
    for number in video.choice.streams[1:]:
        with _opened(video.source, video.demuxer, video.limits, probe=False) as container:
            stream = container.streams[number]
            _discard_others(container, [stream])
            yield from _packets(container, [stream], video.interrupt)


def _packets(
    container: Any, streams: Sequence[Any], interrupt: Callable[[], None] = lambda: None
) -> Iterator[Any]:
    while True:
        try:
            for packet in container.demux(*streams):
                interrupt()
                if packet.size:
                    yield packet
            return
        except IndexError:
            # PyAV stumbles over the first packet of a stream that shows up late; read on.
            continue


def _opened(file: SharedFile, demuxer: str, limits: VideoLimits, probe: bool) -> Any:
    try:
        return av.open(
            FileView(file),
            mode="r",
            format=demuxer,
            options=_open_options(demuxer, limits, probe),
            metadata_errors="replace",
            buffer_size=READ_BYTES,
        )
    except OPENING_ERRORS as error:
        reason = explain_failure(file, limits) if demuxer == "mov" else None
        if reason is not None:
            raise reason from None
        raise Unreadable from error


def _choose(
    container: Any,
    file: SharedFile,
    demuxer: str,
    candidates: Sequence[Any],
    limits: VideoLimits,
) -> Choice:
    _discard_others(container, candidates)
    choice = choose(
        container, demuxer, candidates, lambda streams: _packets(container, streams), limits
    )
    if demuxer == "mov" and is_sequence_beside_picture(file):
        return replace(choice, warnings=())  # what is left out is a still of the same
    return choice


def check_picture(width: int, height: int, limits: VideoLimits) -> None:
    """Refuse a picture over the limits; called for the header and again for every frame."""
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise TooLarge(
            width=width, height=height, max_pixels=limits.max_pixels, max_side=limits.max_side
        )


def _open_options(demuxer: str, limits: VideoLimits, probe: bool) -> dict[str, str]:
    described = frozenset() if probe else DESCRIBED.get(demuxer, frozenset())
    undecoded = {"skip_frame": "all"} if described == DECODERS else {}
    return {
        "protocol_whitelist": "",
        "format_whitelist": demuxer,
        "codec_whitelist": ",".join(sorted(DECODERS - (described & EAGER))),
        "max_pixels": str(limits.max_pixels),
        # One more than allowed, so that the surplus stream can be named.
        "max_streams": str(limits.max_streams + 1),
        "threads": "1",
        **undecoded,
        **PROBING.get(demuxer, {}),
    }


def _prepared(
    file: SharedFile,
    demuxer: str,
    container: Any,
    choice: Choice,
    limits: VideoLimits,
    threads: int,
    interrupt: Callable[[], None],
) -> OpenVideo:
    streams = [container.streams[i] for i in choice.streams]
    stream, context = streams[0], streams[0].codec_context
    check_codec(stream, container)
    if demuxer in DECLARING_ENCRYPTION and is_encrypted(demuxer, file):
        raise Encrypted
    check_picture(context.width, context.height, limits)
    _discard_others(container, streams)
    context.options = {"max_pixels": str(limits.max_pixels)}
    if context.name == "libdav1d" and context.width * context.height < ALONE_BELOW:
        threads = 1
    context.thread_count = threads
    context.thread_type = "FRAME" if threads > 1 else "SLICE"
    return OpenVideo(demuxer, file, container, stream, context, choice, limits, interrupt)


def _discard_others(container: Any, streams: Sequence[Any]) -> None:
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all
