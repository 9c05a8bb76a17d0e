"""How decoding in a worker can fail. The first three are the video's fault."""

from __future__ import annotations

from model.inputs.errors import VideoError


class DecodeTimeout(VideoError):
    """Decoding took longer than its limit; the worker was killed."""

    code = "decode_timeout"
    sentence = (
        "decoding did not finish within its limit of {limit_s:.3g} seconds, with the cheapest "
        "frames neither; ask about a part of the video (start, end), or send it at a lower "
        "resolution"
    )


class ExactTimeout(DecodeTimeout):
    """Decoding by the exact frame rule took longer than its limit."""

    sentence = (
        "decoding did not finish within its limit of {limit_s:.3g} seconds; ask with "
        "frame_rule=keyframes, which takes less, or about a part of the video (start, end), or "
        "send it at a lower resolution"
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


class TakesLonger(Exception):
    """The clip takes longer than its job may now: none of it was decoded."""
