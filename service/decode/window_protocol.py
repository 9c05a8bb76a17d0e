"""Messages about the windows of one video: a job that a worker answers piece by piece.

The parent asks for each batch (`Next`), and has copied the one before out of the shared memory by
then; the worker says nothing unasked. So there is one answer to each message, as for a clip.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from model.inputs.clip import Seconds, VideoInfo
from service.decode.options import MOST_WINDOWS
from service.decode.protocol import (
    MAX_FRAMES_PER_JOB,
    MOST_THREADS,
    Cancel,
    Failed,
    Message,
    Refused,
    Ticket,
)

Batch = Annotated[int, Field(ge=1, le=MAX_FRAMES_PER_JOB)]
Windows = Annotated[int, Field(ge=1, le=MOST_WINDOWS)]
Length = Annotated[float, Field(gt=0, le=1e9)]


class WindowsJob(Message):
    """One video in windows. The descriptors are those of a `Job`; the memory has room for `batch`
    windows.
    """

    kind: Literal["windows"] = "windows"
    ticket: Ticket
    window_s: Length
    stride_s: Length
    max_windows: Windows
    batch: Batch
    start: float | None
    end: float | None
    frame_rule: Literal["exact", "keyframes"]
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] = 1


class Next(Message):
    """The parent wants the next windows; what it got before is its own."""

    kind: Literal["next"] = "next"
    ticket: Ticket


class Begun(Message):
    """The video is open: its facts, without frame times, and how many windows there will be."""

    kind: Literal["begun"] = "begun"
    ticket: Ticket
    info: VideoInfo
    windows: Windows


class WindowTimes(Message):
    """Where a window lies, and the seconds of its frames."""

    start_s: Seconds
    end_s: Seconds
    times_s: Annotated[tuple[Seconds, ...], Field(max_length=MAX_FRAMES_PER_JOB)]


class WindowBatch(Message):
    """The next windows: their frames lie in the shared memory, in this order."""

    kind: Literal["batch"] = "batch"
    ticket: Ticket
    windows: Annotated[tuple[WindowTimes, ...], Field(min_length=1, max_length=MAX_FRAMES_PER_JOB)]


class Finished(Message):
    """There are no more windows."""

    kind: Literal["finished"] = "finished"
    ticket: Ticket


_WISH: TypeAdapter[Any] = TypeAdapter(Annotated[Next | Cancel, Field(discriminator="kind")])


def parse_wish(packet: bytes) -> Next | Cancel:
    """Parse what the parent says of a `WindowsJob` that has begun; ValueError where it is none."""
    wish: Next | Cancel = _WISH.validate_json(packet)
    return wish


WindowsAnswer = Begun | WindowBatch | Finished | Refused | Failed
_ANSWER: TypeAdapter[Any] = TypeAdapter(Annotated[WindowsAnswer, Field(discriminator="kind")])


def parse_windows_answer(packet: bytes) -> WindowsAnswer:
    """Parse an answer to a `WindowsJob` or a `Next`; raise ValueError for anything that is none."""
    answer: WindowsAnswer = _ANSWER.validate_json(packet)
    return answer
