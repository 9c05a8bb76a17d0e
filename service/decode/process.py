"""The parent's side of one worker process: start, ask, kill, reap."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.decode.ending import Ending
from service.decode.protocol import MAX_MESSAGE_BYTES

WORKER = (sys.executable, "-P", "-B", "-s", "-m", "service.decode.worker")
ROOT = Path(__file__).absolute().parents[2]
# Passed on where set: some Python builds cannot start without it.
INHERITED = ("LD_LIBRARY_PATH",)
FIRST_POLL_S, LONGEST_POLL_S = 0.001, 0.1


@dataclass(frozen=True)
class WorkerExit:
    """Why a worker ended, and its exit status as subprocess gives it (negative: a signal)."""

    ending: Ending
    exit_code: int


class WorkerProcess:
    """One process, which answers one job at a time; its first message comes unasked.

    Create it on the thread that runs the event loop: the kernel kills a worker when the thread
    that started it ends. `on_end` is called once, as soon as the worker can do no more work.
    """

    def __init__(
        self, command: Sequence[str], setup: bytes, on_end: Callable[[WorkerProcess], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            with theirs:
                # Buffered by the socket until the worker reads it.
                self._socket.send(setup)
                self._process = _start(command, theirs)
        except OSError:
            self._socket.close()
            raise
        self.pid = self._process.pid
        self.jobs = 0
        self.alive = True
        self.ending: Ending | None = None
        self.ready_since: float | None = None
        self.resident_when_ready = 0
        self.exited: asyncio.Future[WorkerExit] = self._loop.create_future()
        self.first_message: asyncio.Future[bytes | WorkerExit] = self._loop.create_future()
        self._answer: asyncio.Future[bytes | WorkerExit] | None = self.first_message
        self._loop.add_reader(self._socket, self._readable)

    def ready(self) -> None:
        """Record the time and the memory of a worker whose first message was good."""
        self.ready_since = time.monotonic()
        self.resident_when_ready = self.resident_bytes()

    def submit(self, message: bytes, fds: Sequence[int]) -> asyncio.Future[bytes | WorkerExit]:
        """Send a job. The future gets the answer or how the worker ended, never an exception."""
        self.jobs += 1
        return self.ask(message, fds)

    def ask(self, message: bytes, fds: Sequence[int] = ()) -> asyncio.Future[bytes | WorkerExit]:
        """Send a message within a job; see `submit`."""
        answer = self.hear()
        self.tell(message, fds)
        return answer

    def hear(self) -> asyncio.Future[bytes | WorkerExit]:
        """Return a future for the next message, which takes the place of one before; `submit`."""
        answer: asyncio.Future[bytes | WorkerExit] = self._loop.create_future()
        if self.alive:
            self._answer = answer
        else:
            self.exited.add_done_callback(lambda exited: answer.set_result(exited.result()))
        return answer

    def tell(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message; a worker that cannot be told anything is ended."""
        if not self.alive:
            return
        try:
            socket.send_fds(self._socket, [message], fds)
        except OSError:
            self.end(Ending.IDLE)

    def end(self, ending: Ending) -> None:
        """Kill the process; the first caller's `ending` counts."""
        if not self.alive:
            return
        self.alive = False
        self.ending = ending
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._process.kill()
        self._on_end(self)
        self._reap(ending, FIRST_POLL_S)

    def limit_cpu(self, seconds: float) -> None:
        """Have the kernel end the worker (SIGXCPU) after `seconds` more of processor time.

        A second limit behind the wall clock: it also holds while this process is too busy to look.
        """
        with suppress(OSError, ValueError):
            used = time.clock_gettime(_cpu_clock(self.pid))
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)
            # Whole seconds, and the kernel checks at most once a second.
            soft = math.ceil(used + seconds) + 1
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (soft, hard))

    def resident_bytes(self) -> int:
        """Return the worker's private resident memory in bytes; 0 where /proc does not tell."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.pid}/statm").read_text().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * resource.getpagesize()

    def _readable(self) -> None:
        try:
            packet = self._socket.recv(MAX_MESSAGE_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.end(self._ending_by_itself())
        elif self._answer is None or len(packet) > MAX_MESSAGE_BYTES:
            self.end(Ending.GARBAGE)
        else:
            answer, self._answer = self._answer, None
            answer.set_result(packet)

    def _ending_by_itself(self) -> Ending:
        if self.ready_since is None:
            return Ending.START
        return Ending.CRASH if self._answer is not None else Ending.IDLE

    def _reap(self, ending: Ending, poll_again_s: float) -> None:
        code = self._process.poll()
        if code is None:
            longer = min(2 * poll_again_s, LONGEST_POLL_S)
            self._loop.call_later(poll_again_s, self._reap, ending, longer)
            return
        exited = WorkerExit(_refined(ending, code), code)
        self.exited.set_result(exited)
        if self._answer is not None:
            self._answer.set_result(exited)


def _refined(ending: Ending, exit_code: int) -> Ending:
    """Tell from the exit status of which kind a crash was."""
    if ending is not Ending.CRASH:
        return ending
    by_signal = {-signal.SIGXCPU: Ending.CPU, -signal.SIGSYS: Ending.FORBIDDEN}
    return by_signal.get(exit_code, ending)


def _start(command: Sequence[str], stdin: socket.socket) -> subprocess.Popen[bytes]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment |= {name: os.environ[name] for name in INHERITED if name in os.environ}
    process = subprocess.Popen(
        list(command),
        env=environment,
        cwd="/",
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        # Ctrl-C on a terminal is for the service, which drains first. A group and not a session of
        # its own: Linux shares processors out by session first (sched_autogroup), and a worker that
        # is one by itself was seen to get a thirtieth of one while the service was busy.
        process_group=0,
    )
    # The worker says so itself once it runs; while it loads it must not outlive the service either.
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    return process


def _cpu_clock(pid: int) -> int:
    """Return the clock of a process's processor time, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
