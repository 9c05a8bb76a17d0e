"""A decode worker that does what its upload says: for tests of a pool that must survive it.

It runs the production loop, locks itself in as the production worker does, and only then obeys.
An upload is one line: a word and its arguments.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import socket
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np

from model.inputs import Clip, VideoInfo
from service.decode import worker
from service.decode.errors import TakesLonger
from service.decode.protocol import Job, Setup

LIBC = ctypes.CDLL(None, use_errno=True)
PARENT = socket.socket(fileno=os.dup(0))
kept: list[Any] = []


def obey(source: BinaryIO, job: Job, setup: Setup, _: worker.Interrupt) -> Clip:
    while not (order := source.read().decode()):  # it is being written anew
        time.sleep(0.002)
    word, *arguments = order.split()
    if word == "large":
        if job.at_most_s is not None:
            raise TakesLonger
        word, *arguments = arguments
    side, frames = setup.spec.image_size, setup.spec.num_frames
    count = job.views * frames
    picture = np.full((job.views * job.crops, frames, side, side, 3), 7, dtype=np.uint8)
    try:
        ORDERS[word](source, *arguments)
    except Told as told:
        text = str(told).encode()
        picture.reshape(-1)[: len(text) + 1] = bytearray(text + b"\0")
    return Clip(picture, facts(side, "test", tuple(float(i) for i in range(count))))


def facts(side: int, codec: str, times: tuple[float, ...]) -> VideoInfo:
    return VideoInfo(
        duration_s=1.0,
        fps=25.0,
        width=side,
        height=side,
        codec=codec,
        frames=len(times),
        frame_times_s=times,
    )


class Told(Exception):
    """What to tell the test."""


def say(text: str) -> None:
    """Tell the test something, in the pixels: no other part of an answer carries free text."""
    raise Told(text)


def fine(_: BinaryIO) -> None:
    pass


def signal_self(_: BinaryIO, number: str) -> None:
    """Die of a signal without asking the kernel: the filter forbids kill."""
    if int(number) == 11:
        ctypes.string_at(0)
    LIBC.abort()


def hang(_: BinaryIO) -> None:
    while True:
        time.sleep(1)


def spin(_: BinaryIO) -> None:
    while True:
        pass


def hold(source: BinaryIO) -> None:
    """Wait until somebody has written something else into the upload.

    A file that is written anew is empty for a moment: that is not yet something else.
    """
    while os.pread(source.fileno(), 4, 0) in (b"hold", b"larg", b""):
        time.sleep(0.002)


def hog(_: BinaryIO) -> None:
    blocks = []
    while True:
        blocks.append(bytearray(b"x") * (8 << 20))


def grow(_: BinaryIO, mebibytes: str) -> None:
    kept.append(bytearray(b"x") * (int(mebibytes) << 20))


def files(source: BinaryIO) -> None:
    """Use up every descriptor there may be, and keep them: none is left to answer with."""
    try:
        while True:
            kept.append(fcntl.fcntl(source.fileno(), fcntl.F_DUPFD, 0))
    except OSError:
        pass


def scribble(_: BinaryIO) -> None:
    """Change the frames of the clip before, through the mapping that was kept."""
    kept[0][:] = b"\xff" * len(kept[0])


def bug(_: BinaryIO) -> None:
    raise KeyError("of /srv/app/secret.py")


def modules(_: BinaryIO, *names: str) -> None:
    """Which of these are loaded?"""
    say(" ".join(name for name in names if name in sys.modules) or "none")


def pid(_: BinaryIO) -> None:
    say(str(os.getpid()))


def environment(_: BinaryIO) -> None:
    say(" ".join(sorted(os.environ)))


def attempt(_: BinaryIO, *words: str) -> None:
    """Try something forbidden and say how it ended."""
    try:
        ATTEMPTS[" ".join(words)]()
    except OSError as error:
        say(errno.errorcode.get(error.errno or 0, "unknown"))
    except (RuntimeError, ValueError) as error:
        say(type(error).__name__)
    say("succeeded")


def write_upload(source: BinaryIO) -> None:
    try:
        os.pwrite(source.fileno(), b"changed", 0)
    except OSError as error:
        say(errno.errorcode[error.errno or 0])


def call(name: str, *arguments: Any) -> None:
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def have_a_signal_sent() -> None:
    """Ask the kernel to send SIGKILL to the parent when its next job comes."""
    fcntl.fcntl(0, fcntl.F_SETSIG, 9)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())
    fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)


def start_a_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()


ATTEMPTS = {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "create": lambda: os.open("/tmp/made_by_a_worker", os.O_WRONLY | os.O_CREAT),
    "unlink": lambda: os.unlink("/tmp/made_by_a_worker"),
    "list": lambda: os.listdir("/"),
    "stat": lambda: os.stat("/etc/passwd"),
    "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "pair": lambda: socket.socketpair(),
    "connect": lambda: call("connect", 0, b"\0" * 16, 16),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "vfork": lambda: call("vfork"),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "thread": start_a_thread,
    # clone, as on x86-64 and arm64, with SIGCHLD alone for a flag: a fork by another name
    "process as a thread": lambda: call(
        "syscall", {"x86_64": 56, "aarch64": 220}[os.uname().machine], 17, 0, 0, 0, 0
    ),
    "signal": lambda: os.kill(os.getppid(), 0),
    "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
    "executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "more": lambda: __import__("resource").setrlimit(7, (64, 64)),
    "memfd": lambda: os.memfd_create("more"),
    "truncate": lambda: os.ftruncate(0, 0),
    "have a signal sent": have_a_signal_sent,
    "owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    "signal number": lambda: fcntl.fcntl(0, fcntl.F_SETSIG, 9),
    "asynchronous": lambda: fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC),
    "lease": lambda: fcntl.fcntl(0, 1024, 1),
    "lock": lambda: fcntl.lockf(0, fcntl.LOCK_SH),
    "duplicate": lambda: fcntl.fcntl(0, fcntl.F_DUPFD, 0),
    "sigign": lambda: __import__("signal").signal(24, 1),
}

ORDERS: dict[str, Any] = {
    "fine": fine,
    "die": signal_self,
    "hang": hang,
    "spin": spin,
    "hold": hold,
    "hog": hog,
    "grow": grow,
    "files": files,
    "bug": bug,
    "scribble": scribble,
    "modules": modules,
    "environment": environment,
    "pid": pid,
    "attempt": attempt,
    "write": write_upload,
}


class Raw:
    """An answer of arbitrary bytes."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet

    def to_bytes(self) -> bytes:
        return self.packet


def lie(
    packet: bytes, fds: list[int], decode: worker.Decode, setup: Setup, parent: socket.socket
) -> Any:
    """An upload that begins with `lie` is an answer to give, changed from an honest one."""
    order = os.pread(fds[0], 1 << 20, 0)
    if not order.startswith(b"lie "):
        return honest(packet, fds, decode, setup, parent)
    how, _, text = order[4:].decode().partition(" ")
    return Raw(LIES[how](text, fds, packet, setup))


def honest_answer(packet: bytes, setup: Setup) -> bytes:
    """What a worker says of black frames."""
    job, spec = Job.model_validate_json(packet), setup.spec
    views = job.views
    shape = (views, spec.num_frames, spec.image_size, spec.image_size, 3)
    info = facts(8, "h264", (0.0,) * (views * spec.num_frames))
    return worker.decoded(job, Clip(np.zeros(shape, dtype=np.uint8), info)).to_bytes()


def lie_raw(text: str, _: Any, packet: bytes, __: Setup) -> bytes:
    return text.replace("OF THE JOB", json.loads(packet)["ticket"]).encode()


def lie_long(text: str, *_: Any) -> bytes:
    return b"[" * int(text)


def lie_short(_: str, fds: list[int], packet: bytes, setup: Setup) -> bytes:
    """Take the memory away under the answer."""
    os.ftruncate(fds[1], 1)
    return honest_answer(packet, setup)


def lie_mapped(_: str, fds: list[int], packet: bytes, setup: Setup) -> bytes:
    """Keep the frames writable after the answer."""
    kept.append(mmap.mmap(fds[1], 0))
    return honest_answer(packet, setup)


def lie_twice(pause_s: str, fds: list[int], packet: bytes, setup: Setup) -> bytes:
    """Two answers; the second comes when the parent has long put the next question."""
    answer = honest_answer(packet, setup)
    PARENT.send(answer)
    time.sleep(float(pause_s))
    return answer


def lie_gift(_: str, fds: list[int], packet: bytes, setup: Setup) -> bytes:
    """Send descriptors along, for the parent to choke on."""
    socket.send_fds(PARENT, [b"{}"], [1] * 200)
    return honest_answer(packet, setup)


LIES: dict[str, Any] = {
    "raw": lie_raw,
    "long": lie_long,
    "honest": lambda _text, _fds, packet, setup: honest_answer(packet, setup),
    "mapped": lie_mapped,
    "short": lie_short,
    "twice": lie_twice,
    "gift": lie_gift,
}

honest = worker.work
worker.work = lie

if __name__ == "__main__":
    worker.run(obey)
