"""How decoding in a worker can fail. The first three are the video's fault."""

from __future__ import annotations

from model.inputs.errors import VideoError


class DecodeTimeout(VideoError):
    """Decoding took longer than its limit; the worker was killed."""

    code = "decode_timeout"
    sentence = (
        "decoding did not finish within its limit of {limit_s:.3g} seconds; send a shorter video "
        "or one of lower resolution"
    )


class DecodeCrashed(VideoError):
    """The worker that decoded this video died of it, or answered nonsense."""

    code = "decode_crashed"
    sentence = "this video cannot be decoded safely; re-encode it and send it again"


class TooDemanding(VideoError):
    """Decoding this video needs more memory than one request may use."""

    code = "video_too_demanding"
    sentence = (
        "decoding this video needs more memory than one request may use; send it at a lower "
        "resolution"
    )


class DecodeUnavailable(RuntimeError):
    """No worker can take the job: the pool is stopped, or its workers cannot start."""
