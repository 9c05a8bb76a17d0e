"""Why a clip is refused. Low layers raise these; only the service knows HTTP.

`code` is stable and machine-readable. `detail` is written for the sender: it says what to change
and never contains a path or a library's own words.
"""

from __future__ import annotations


class VideoError(Exception):
    """A clip that cannot be used; `code` names the reason, `detail` says what to change."""

    code = "video_undecodable"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.detail, self.code))


def _rebuild(kind: type[VideoError], detail: str, code: str) -> VideoError:
    return kind(detail, code=code)


class NotAVideo(VideoError):
    """The bytes are no video: text, a picture, audio alone, nothing that we know."""

    code = "not_a_video"


class UnsupportedFormat(VideoError):
    """A video in a container or codec that is not on the allow-list."""

    code = "unsupported_media"


class TooLarge(VideoError):
    """Over a limit; `code` names which: resolution, duration, frames or streams."""

    code = "resolution_too_large"


class Undecodable(VideoError):
    """The container was read, but no picture could be decoded."""

    code = "video_undecodable"


class TooShort(VideoError):
    """No frame lies in the asked range, or the picture is too small to use."""

    code = "video_too_short"


class RangeError(VideoError):
    """`start` and `end` do not describe a part of this clip."""

    code = "start_past_end"
