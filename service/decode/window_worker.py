"""The worker's side of a video in windows: fill the memory, say what is in it, wait to be asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import BinaryIO

import numpy as np

from model.inputs.clip import Pixels
from model.inputs.sampling import FrameRule
from model.inputs.video.window_pass import Opened, Window
from model.inputs.video.window_reader import read_windows
from model.inputs.windows import Cut
from service.decode.frame_memory import write_frames
from service.decode.protocol import MAX_MESSAGE_BYTES, Cancel, Message, Setup
from service.decode.unwanted import Unwanted, check_wanted
from service.decode.window_protocol import (
    Begun,
    Finished,
    WindowBatch,
    WindowsJob,
    WindowTimes,
    parse_wish,
)


def serve_windows(
    source: BinaryIO, memory: int, job: WindowsJob, setup: Setup, parent: socket.socket
) -> Message:
    """Answer as often as the parent asks, which may want no more at any time.

    Returns:
        The last answer, which goes the way of the answer to any job.

    Raises:
        VideoError: The video cannot be used, or not to its end.
        SystemExit: The parent has gone.
    """
    read = read_windows(
        source,
        setup.spec,
        Cut(job.window_s, job.stride_s, job.max_windows),
        start=job.start,
        end=job.end,
        limits=setup.limits,
        frame_rule=FrameRule(job.frame_rule),
        threads=job.threads,
        interrupt=lambda: check_wanted(parent),
    )
    with closing(read), suppress(Unwanted):
        for message in _messages(read, memory, job, setup):
            parent.send(message.to_bytes())
            wait_until_asked(job, parent)
    return Finished(ticket=job.ticket)


def _messages(
    read: Iterator[Opened | Window], memory: int, job: WindowsJob, setup: Setup
) -> Iterator[Message]:
    side, count = setup.spec.image_size, setup.spec.num_frames
    frames = np.zeros((job.batch, count, side, side, 3), np.uint8)
    times: list[WindowTimes] = []
    for part in read:
        if isinstance(part, Opened):
            yield Begun(ticket=job.ticket, info=part.info, windows=part.windows)
            continue
        frames[len(times)] = part.frames
        times.append(WindowTimes(start_s=part.start_s, end_s=part.end_s, times_s=part.times_s))
        if len(times) == job.batch:
            yield _batch(job, memory, frames, times)
            times = []
    if times:
        yield _batch(job, memory, frames, times)


def _batch(job: WindowsJob, memory: int, frames: Pixels, times: list[WindowTimes]) -> WindowBatch:
    write_frames(memory, frames)
    return WindowBatch(ticket=job.ticket, windows=tuple(times))


def wait_until_asked(job: WindowsJob, parent: socket.socket) -> None:
    """Return when the parent wants more.

    Raises:
        Unwanted: It wants no more.
        SystemExit: It has gone.
    """
    packet, _, _, _ = parent.recvmsg(MAX_MESSAGE_BYTES)
    if not packet:
        parent.detach()  # as at the end between two jobs
        raise SystemExit
    wish = parse_wish(packet)
    if wish.ticket != job.ticket:
        raise ValueError("the parent asks about another job")
    if isinstance(wish, Cancel):
        raise Unwanted
