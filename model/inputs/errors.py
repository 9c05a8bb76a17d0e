"""Why a clip is refused. Low layers raise these; only the service knows HTTP.

Each refusal is a class with a stable `code` and a fixed `sentence` for the sender, which says what
to change and never contains a path or a library's own words. What differs from clip to clip are the
`facts` that fill it in: numbers, and names of codecs and containers. So a refusal can be passed
from a process that is not trusted as a class name and facts, and its text made where it is sent.
"""

from __future__ import annotations

from string import Formatter
from typing import ClassVar

Fact = int | float | str

ACCEPTED = "mp4, mov, webm, mkv, avi, mpeg-ts, mpeg, flv, wmv, ogv or gif"


class VideoError(Exception):
    """A clip that cannot be used; `detail` says what to change.

    Args:
        facts: A value for each field of `sentence`.
    """

    code: ClassVar[str] = "video_undecodable"
    sentence: ClassVar[str] = "this video cannot be decoded; re-encode it and send it again"

    def __init__(self, **facts: Fact) -> None:
        self.facts = facts
        self.detail = self.sentence.format(**facts)
        super().__init__(self.detail)

    @classmethod
    def fields(cls) -> frozenset[str]:
        """Return the names of the facts that the sentence needs."""
        return frozenset(name for _, name, _, _ in Formatter().parse(cls.sentence) if name)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[VideoError], facts: dict[str, Fact]) -> VideoError:
    return kind(**facts)


class NotAVideo(VideoError):
    """The bytes are no video: text, a picture, audio alone, nothing that we know."""

    code = "not_a_video"
    sentence = f"this file is not a video; send {ACCEPTED}"


class IsPicture(NotAVideo):
    """A still picture."""

    sentence = f"this file is a picture, not a video; send {ACCEPTED}"


class NoVideoStream(NotAVideo):
    """Audio, subtitles or data alone."""

    sentence = "this file has no video stream; send a video"


class UnsupportedFormat(VideoError):
    """A video in a container that is not on the allow-list."""

    code = "unsupported_media"
    sentence = f"this kind of video file is not accepted; send {ACCEPTED}"


class UnsupportedContainer(UnsupportedFormat):
    """A container that is known, and not on the allow-list."""

    sentence = f"the container of this video ({{container}}) is not accepted; send {ACCEPTED}"


class UnsupportedCodec(UnsupportedFormat):
    """A video whose codec is not on the allow-list."""

    sentence = (
        "the codec of this video ({codec}) is not accepted; send H.264, HEVC, VP9, AV1 or MPEG-4"
    )


class Encrypted(UnsupportedFormat):
    """A video under DRM: it would decode to noise."""

    sentence = "this video is encrypted (DRM) and cannot be decoded; send it without protection"


class TooLarge(VideoError):
    """Over a limit: of the picture here, of other things below."""

    code = "resolution_too_large"
    sentence = (
        "the picture is {width:d}x{height:d}; at most {max_pixels:d} pixels and {max_side:d} a "
        "side are accepted: scale the video down"
    )


class ShownTooLarge(TooLarge):
    """Pixels that are not square make the shown picture too large."""

    sentence = (
        "the picture is shown at {width:d}x{height:d}; at most {max_side:d} a side are accepted: "
        "scale the video down"
    )


class TooLong(TooLarge):
    """Longer than the limit in seconds."""

    code = "video_too_long"
    sentence = "the video is longer than {max_duration_s:g} seconds; cut it"


class TooManyFrames(TooLarge):
    """More frames than the limit."""

    code = "too_many_frames"
    sentence = (
        "the video has more than {max_frames:d} frames; cut it, or send fewer frames per second"
    )


class TooManyStreams(TooLarge):
    """More streams than the limit."""

    code = "too_many_streams"
    sentence = "the file has more than {max_streams:d} streams; send the video alone"


class Undecodable(VideoError):
    """The container was read, but no picture could be decoded."""

    sentence = "this video cannot be decoded; it is damaged"


class Unreadable(Undecodable):
    """The container cannot be read."""

    sentence = "this file cannot be read as a video; it is damaged or incomplete"


class OverlappingPackets(Undecodable):
    """The packets claim more bytes than the file has."""

    sentence = "the packets of this video hold more than the file; re-encode it"


class NoPicture(Undecodable):
    """Not one picture could be decoded."""

    sentence = (
        "no picture of this video could be decoded: it is damaged or cut off; send the whole file"
    )


class MissingBeginning(Undecodable):
    """A segment or a chunk of a recording: what it is decoded with lies before it."""

    sentence = (
        "this is a later piece of a video without its beginning (the initialisation segment or the "
        "first chunk); send both joined into one file"
    )


class NoPackets(Undecodable):
    """The head of a video with nothing behind it: an initialisation segment, a broken recording."""

    sentence = (
        "this file is the beginning of a video and holds no picture; send the whole file, or the "
        "initialisation segment joined with the segments that follow it"
    )


class MissingIndex(Undecodable):
    """An mp4 or mov file without its `moov` box."""

    sentence = (
        "the index of this video (its moov box) is missing: the recording was not finished or the "
        "file was cut off; send the whole file"
    )


class TooShort(VideoError):
    """No frame lies in the asked range."""

    code = "video_too_short"
    sentence = "no frame lies between start and end; widen the range"


class RangeError(VideoError):
    """`start` lies after the clip."""

    code = "start_past_end"
    sentence = "start ({start_s:g} s) lies after the last frame of the clip ({last_s:.3f} s)"


class ReversedRange(RangeError):
    """`start` lies after `end`."""

    sentence = "start ({start_s:g} s) lies after end ({end_s:g} s); swap them"


class TooManyWindows(TooLarge):
    """A timeline of more windows than the limit."""

    code = "too_many_windows"
    sentence = (
        "the video makes {windows:d} windows, the limit is {max_windows:d}; ask with a stride_s of "
        "{stride_s:g} or more, or about a part of the video (start, end)"
    )


class Unsteady(Undecodable):
    """What was decoded is not what the packets announced, after windows of it were answered."""

    sentence = (
        "this video is damaged: its pictures are not those that its packets announce, so their "
        "times are not known before all is decoded; re-encode it and send it again"
    )
