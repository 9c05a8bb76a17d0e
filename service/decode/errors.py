"""How decoding in a worker can end badly. The first three are the video's fault."""

from __future__ import annotations

from model.inputs.errors import VideoError


class DecodeTimeout(VideoError):
    """Decoding took longer than its limit; the worker was killed."""

    code = "decode_timeout"


class DecodeCrashed(VideoError):
    """The worker that decoded this video died of it, or answered nonsense."""

    code = "decode_crashed"


class TooDemanding(VideoError):
    """Decoding this video needs more memory than one request may use."""

    code = "video_too_demanding"


class DecodeUnavailable(RuntimeError):
    """No worker can take the job: the pool is stopped, or its workers cannot start."""
