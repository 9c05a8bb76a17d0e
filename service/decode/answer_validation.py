"""From a worker's answer to a clip or an error, believing nothing that was not checked."""

from __future__ import annotations

import logging

from model.inputs import errors as video_errors
from model.inputs.clip import Clip
from model.inputs.errors import VideoError
from service.decode.errors import DecodeCrashed, DecodeTimeout, TooDemanding
from service.decode.frame_memory import FrameMemory
from service.decode.process import Death
from service.decode.protocol import Decoded, Failed, Refused, parse_answer

log = logging.getLogger(__name__)

OUT_OF_TIME = frozenset(["timeout", "cpu"])
REFUSALS: dict[str, type[VideoError]] = {
    kind.__name__: kind
    for kind in (*vars(video_errors).values(), TooDemanding)
    if isinstance(kind, type) and issubclass(kind, VideoError)
}


class BadAnswer(Exception):
    """What a worker sent is no answer to what it was asked; `reason` as in PoolStats.ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def clip_from(packet: bytes, ticket: str, memory: FrameMemory, times: int) -> Clip:
    """The clip that a worker's answer describes; `times` is how many frame times it must have.

    `ticket` is that of the job.

    Raises the VideoError that the worker reports, or BadAnswer.
    """
    try:
        answer = parse_answer(packet)
    except ValueError as error:
        raise BadAnswer("garbage") from error
    if isinstance(answer, Failed):
        log.error("decoding failed in a worker: %r", answer.what)
        raise BadAnswer("failed")
    if answer.ticket != ticket:
        raise BadAnswer("garbage")
    if isinstance(answer, Refused):
        raise _refusal(answer)
    return _clip(answer, memory, times)


def _refusal(answer: Refused) -> VideoError:
    kind = REFUSALS.get(answer.error)
    if kind is None:
        raise BadAnswer("garbage")
    return kind(answer.detail, code=answer.code)


def _clip(answer: Decoded, memory: FrameMemory, times: int) -> Clip:
    if tuple(answer.shape) != memory.shape or len(answer.info.frame_times_s) != times:
        raise BadAnswer("garbage")
    try:
        frames = memory.frames()
    except OSError as error:
        # The worker kept the memory mapped: it could change the frames while they are used.
        raise BadAnswer("garbage") from error
    return Clip(frames, answer.info)


def error_for(death: Death, limit_s: float) -> VideoError:
    """What the sender of a clip is told whose worker died."""
    if death.reason in OUT_OF_TIME:
        return DecodeTimeout(
            f"decoding did not finish within its limit of {limit_s:.3g} seconds; send a shorter "
            "video or one of lower resolution"
        )
    return DecodeCrashed("this video cannot be decoded safely; re-encode it and send it again")
