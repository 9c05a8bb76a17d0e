"""A decode worker: `python -m service.decode.worker`, started by the pool with a socket as fd 0.

It receives its settings, loads what it needs, confines itself and then decodes one clip at a time
until the socket closes. It never sees a path or a client's file name: only open descriptors.
"""

from __future__ import annotations

import ctypes
import gc
import io
import mmap
import os
import pkgutil
import select
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Annotated, BinaryIO

import av
from pydantic import Field, TypeAdapter, ValidationError

from model.inputs.clip import Clip
from model.inputs.errors import Undecodable, VideoError
from model.inputs.sampling import FrameRule
from model.inputs.spec import InputSpec
from model.inputs.video.decode import decode_clip
from model.inputs.work import Work
from service.decode.confine import confine
from service.decode.errors import TakesLonger, TooDemanding
from service.decode.frame_memory import write_frames
from service.decode.protocol import (
    MAX_MESSAGE_BYTES,
    Cancel,
    Cancelled,
    Decoded,
    Failed,
    Job,
    Message,
    PutOff,
    Ready,
    Refused,
    Setup,
)
from service.decode.rates import estimated_s
from service.decode.sample_clip import SAMPLE_CLIP
from service.decode.unwanted import Unwanted, check_wanted
from service.decode.window_protocol import WindowsJob
from service.decode.window_worker import serve_windows

Interrupt = Callable[[], None]
Decode = Callable[[BinaryIO, Job, Setup, Interrupt], Clip]
_JOB: TypeAdapter[Job | WindowsJob] = TypeAdapter(
    Annotated[Job | WindowsJob, Field(discriminator="kind")]
)
SOCKET, STDERR = 0, 2
# mallopt(3): blocks from one size on are mapped by themselves, and freed memory stays at hand until
# there is so much of it. Larger values and what fits into the memory limit depends on the clips
# before; smaller ones, and the same pages are cleared again and again within a clip.
M_MMAP_THRESHOLD, MAPPED_FROM_BYTES = -3, 512 << 10
M_TRIM_THRESHOLD, TRIMMED_FROM_BYTES = -1, 4 << 20
# For a video in windows, whose thousands of pictures would be cleared again and again: a fifth of
# the time. The first of a job finds the memory as it always is.
MAPPED_IN_WINDOWS_FROM_BYTES, TRIMMED_IN_WINDOWS_FROM_BYTES = 16 << 20, 32 << 20
# Threads share one arena: one for each would take 64 MiB of address space.
M_ARENA_MAX = -8
FILES_PER_JOB = 2
# PyAV's command line, and its downloader of sample files.
NOT_FOR_DECODING = ("av.__main__", "av.datasets")
# What may stay allocated between two clips that follow each other, and when no clip has come for
# a while.
KEPT_AT_WORK_BYTES, KEPT_AT_REST_BYTES = 8 << 20, 1 << 20
REST_MS = 300


def decode_upload(source: BinaryIO, job: Job, setup: Setup, interrupt: Interrupt) -> Clip:
    """Decode the clip of a job, by one thread where there is no memory for more."""
    if job.threads > 1:
        try:
            return decode_by(job.threads, source, job, setup, interrupt)
        except (MemoryError, VideoError, RuntimeError) as error:
            if not (wants_memory(error) or isinstance(error, RuntimeError)):  # no thread to be had
                raise
        gc.collect()
    return decode_by(1, source, job, setup, interrupt)


def decode_by(threads: int, source: BinaryIO, job: Job, setup: Setup, interrupt: Interrupt) -> Clip:
    """Decode the clip of a job by so many threads."""

    def by_cost(exact: Work) -> FrameRule:
        fits = estimated_s(exact, job.rates) <= job.budget_s
        return FrameRule.EXACT if fits else FrameRule.KEYFRAMES

    def check_time(work: Work) -> None:
        if job.at_most_s is not None and estimated_s(work, job.rates) > job.at_most_s:
            raise TakesLonger

    return decode_clip(
        source,
        setup.spec,
        views=job.views,
        crops=job.crops,
        start=job.start,
        end=job.end,
        limits=setup.limits,
        frame_rule=by_cost if job.frame_rule == "auto" else FrameRule(job.frame_rule),
        threads=threads,
        before=check_time,
        interrupt=interrupt,
    )


def wants_memory(error: BaseException) -> bool:
    """Tell whether an error comes from want of memory."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def run(decode: Decode = decode_upload) -> None:
    """Serve jobs on the socket until the parent closes it."""
    # Closed by the end of the process and not before, so that its last message still arrives.
    parent = socket.socket(fileno=SOCKET)
    setup = Setup.model_validate_json(parent.recv(MAX_MESSAGE_BYTES))
    fix_allocator()
    warm_up()
    return_memory = memory_returner()
    discard_stderr()
    parent.send(Ready(sandbox=confine(setup.confinement)).to_bytes())
    coming = select.poll()
    coming.register(parent, select.POLLIN)
    while True:
        if not coming.poll(REST_MS):
            return_memory(KEPT_AT_REST_BYTES)
        packet, fds, _, _ = socket.recv_fds(parent, MAX_MESSAGE_BYTES, FILES_PER_JOB)
        if not packet:
            parent.detach()  # else its finaliser would ask for addresses, which the sandbox forbids
            return
        if not fds and is_cancel(packet):  # of a job that was done when it came
            continue
        answer = work(packet, fds, decode, setup, parent)
        # Before the answer, because the parent then looks at how much this process holds.
        return_memory(KEPT_AT_WORK_BYTES)
        parent.send(answer.to_bytes())


def fix_allocator(
    mapped_from: int = MAPPED_FROM_BYTES, trimmed_from: int = TRIMMED_FROM_BYTES
) -> None:
    """Have glibc keep these sizes, whatever was decoded before.

    Left alone it raises them when large blocks are freed: what fits into the memory limit would
    then depend on the clips before.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, mapped_from)
    libc.mallopt(M_TRIM_THRESHOLD, trimmed_from)
    libc.mallopt(M_ARENA_MAX, 1)


def _windows(
    source: BinaryIO, memory: int, job: WindowsJob, setup: Setup, parent: socket.socket
) -> Message:
    fix_allocator(MAPPED_IN_WINDOWS_FROM_BYTES, TRIMMED_IN_WINDOWS_FROM_BYTES)
    try:
        return serve_windows(source, memory, job, setup, parent)
    finally:
        fix_allocator()


def warm_up() -> None:
    """Load now what would be loaded at its first use, when files cannot be opened any more.

    PyAV imports its classes for audio and subtitles when a file has such streams; the rest shows
    when a few bytes are decoded.
    """
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in NOT_FOR_DECODING:
            import_module(module.name)
    plain = InputSpec(num_frames=2, image_size=8, resize_short_side=12)
    smooth = plain.model_copy(update={"resize_rule": "bilinear-antialias"})
    for spec in (plain, smooth):
        decode_clip(io.BytesIO(SAMPLE_CLIP), spec)
    try:
        decode_clip(io.BytesIO(SAMPLE_CLIP[:100]), plain)
    except VideoError:
        traceback.format_exc()


def memory_returner() -> Callable[[int], None]:
    """Return a function that returns memory to the system where more than so many bytes are kept.

    Not after every clip: the pages that the next one needs anyhow would be cleared for nothing.
    """
    trim = ctypes.CDLL(None).malloc_trim
    statm = os.open("/proc/self/statm", os.O_RDONLY)

    def resident_pages() -> int:
        _, resident, shared, *_ = os.pread(statm, 200, 0).split()
        return int(resident) - int(shared)

    fresh = resident_pages()
    # What is loaded by now stays; collecting need not look at it again.
    gc.freeze()

    def return_memory(kept_bytes: int) -> None:
        # A decoder's pictures can hang on reference cycles, and a refusal holds its stack.
        gc.collect()
        if (resident_pages() - fresh) * mmap.PAGESIZE > kept_bytes:
            trim(0)

    return return_memory


def is_cancel(packet: bytes) -> bool:
    """Tell whether a message says that a job is not wanted any more."""
    try:
        Cancel.model_validate_json(packet)
    except ValidationError:
        return False
    return True


def discard_stderr() -> None:
    """Send standard error to nowhere: libraries may print what a file tells them to."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)


def work(
    packet: bytes, fds: list[int], decode: Decode, setup: Setup, parent: socket.socket
) -> Message:
    """Do one job, and turn whatever happens into its (last) answer."""
    try:
        if len(fds) != FILES_PER_JOB:
            raise ValueError(f"{len(fds)} descriptors came with the job")
        upload, memory = fds
        job = _JOB.validate_json(packet)
        with open(upload, "rb", buffering=0, closefd=False) as source:
            answer: Callable[[], Message]
            if isinstance(job, WindowsJob):
                answer = partial(_windows, source, memory, job, setup, parent)
            else:
                answer = partial(_done, job, source, memory, decode, setup, parent)
            return _or_refused(job, answer)
    except Exception:
        return Failed(what=traceback.format_exc()[-4000:])
    finally:
        for fd in fds:
            os.close(fd)


def _or_refused(job: Job | WindowsJob, answer: Callable[[], Message]) -> Message:
    try:
        return _known_or_refused(job, answer)
    except ValidationError:  # numbers of the file that no answer may hold
        return refused(job, Undecodable())


def _known_or_refused(job: Job | WindowsJob, answer: Callable[[], Message]) -> Message:
    try:
        return answer()
    except TakesLonger:
        return PutOff(ticket=job.ticket)
    except Unwanted:
        return Cancelled(ticket=job.ticket)
    except VideoError as error:
        return refused(job, error)
    except MemoryError:
        return refused(job, TooDemanding())


def _done(
    job: Job,
    source: BinaryIO,
    memory: int,
    decode: Decode,
    setup: Setup,
    parent: socket.socket,
) -> Decoded:
    began = time.process_time()
    clip = timed(decode(source, job, setup, partial(check_wanted, parent)), began)
    write_frames(memory, clip.frames)
    return decoded(job, clip)


def timed(clip: Clip, began: float) -> Clip:
    """Note in the clip how much processor time it took since `began`."""
    if clip.work is None:
        return clip
    seconds = time.process_time() - began
    return replace(clip, work=clip.work.model_copy(update={"seconds": seconds}))


def decoded(job: Job, clip: Clip) -> Decoded:
    """Make the answer for a clip whose frames are in the shared memory."""
    shape = list(clip.frames.shape)
    return Decoded(ticket=job.ticket, shape=shape, info=clip.info, work=clip.work)


def refused(job: Job | WindowsJob, error: VideoError) -> Refused:
    """Make the answer for a video that cannot be used."""
    if wants_memory(error):
        error = TooDemanding()
    return Refused(ticket=job.ticket, error=type(error).__name__, facts=error.facts)


if __name__ == "__main__":
    run()
