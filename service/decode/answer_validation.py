"""Turn a worker's answer into a clip or an error; trust nothing that was not checked."""

from __future__ import annotations

import logging

from model.inputs import errors as video_errors
from model.inputs.clip import Clip
from model.inputs.errors import VideoError
from model.inputs.sampling import FrameChoice
from service.decode.ending import OUT_OF_TIME, Ending
from service.decode.errors import (
    DecodeCrashed,
    DecodeTimeout,
    ExactTimeout,
    TakesLonger,
    TooDemanding,
)
from service.decode.frame_memory import FrameMemory
from service.decode.process import WorkerExit
from service.decode.protocol import Cancelled, Decoded, Failed, Job, PutOff, Refused, parse_answer

log = logging.getLogger(__name__)

REFUSALS: dict[str, type[VideoError]] = {
    kind.__name__: kind
    for kind in (*vars(video_errors).values(), TooDemanding)
    if isinstance(kind, type) and issubclass(kind, VideoError)
}


class BadAnswer(Exception):
    """A worker's message is no answer to its job; `ending` says how the worker is to end."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def clip_from(packet: bytes, job: Job, memory: FrameMemory, times: int) -> Clip:
    """Return the clip that a worker's answer describes.

    Args:
        packet: The answer as it came.
        job: What was asked.
        memory: Where the frames lie.
        times: How many frame times the answer must have.

    Raises:
        VideoError: The worker refused the video.
        TakesLonger: The clip was put off, as the job asked.
        BadAnswer: The packet is no answer to the job.
    """
    try:
        answer = parse_answer(packet)
    except ValueError as error:
        raise BadAnswer(Ending.GARBAGE) from error
    if isinstance(answer, Failed):
        log.error("decoding failed in a worker: %r", answer.what)
        raise BadAnswer(Ending.FAILED)
    if answer.ticket != job.ticket or isinstance(answer, Cancelled):  # this one is wanted
        raise BadAnswer(Ending.GARBAGE)
    if isinstance(answer, PutOff):
        raise TakesLonger if job.at_most_s is not None else BadAnswer(Ending.GARBAGE)
    if isinstance(answer, Refused):
        raise refusal(answer)
    if job.frame_rule not in ("auto", answer.info.frame_rule):
        raise BadAnswer(Ending.GARBAGE)
    return _clip(answer, memory, times)


def refusal(answer: Refused) -> VideoError:
    """Make the error here, from its class and checked facts: no text of the worker is passed on."""
    kind = REFUSALS.get(answer.error)
    if kind is None or answer.facts.keys() != kind.fields():
        raise BadAnswer(Ending.GARBAGE)
    try:
        return kind(**answer.facts)
    except ValueError as error:  # a name where the sentence has a number
        raise BadAnswer(Ending.GARBAGE) from error


def _clip(answer: Decoded, memory: FrameMemory, times: int) -> Clip:
    if tuple(answer.shape) != memory.shape or len(answer.info.frame_times_s) != times:
        raise BadAnswer(Ending.GARBAGE)
    try:
        frames = memory.frames()
    except OSError as error:
        # The worker made the memory smaller.
        raise BadAnswer(Ending.GARBAGE) from error
    return Clip(frames, answer.info, answer.work)


def error_for(exited: WorkerExit, limit_s: float, rule: FrameChoice) -> VideoError:
    """Return the error for the sender of a clip whose worker ended."""
    if exited.ending in OUT_OF_TIME:
        return (ExactTimeout if rule == "exact" else DecodeTimeout)(limit_s=limit_s)
    return DecodeCrashed()
