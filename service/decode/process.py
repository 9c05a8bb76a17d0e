"""The parent's end of one worker process: start it, ask it, kill it, bury it."""

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

from service.decode.protocol import MAX_MESSAGE_BYTES

WORKER = (sys.executable, "-P", "-B", "-s", "-m", "service.decode.worker")
ROOT = Path(__file__).absolute().parents[2]
# Passed on where set: some Python builds cannot start without it.
INHERITED = ("LD_LIBRARY_PATH",)
FIRST_LOOK_S, LONGEST_LOOK_S = 0.001, 0.1


@dataclass(frozen=True)
class Death:
    """How a worker ended: `reason` as in PoolStats.ended, and the exit status."""

    reason: str
    exit_code: int


class WorkerProcess:
    """One process. It answers one question at a time; the first answer comes unasked.

    Must be made on the thread that runs the event loop: the kernel kills a worker when the thread
    that started it ends. `on_end` is called once, as soon as the worker is of no more use.
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
                # It waits in the socket until the worker can read.
                self._socket.send(setup)
                self._process = _start(command, theirs)
        except OSError:
            self._socket.close()
            raise
        self.pid = self._process.pid
        self.jobs = 0
        self.alive = True
        self.reason = ""
        self.ready_since: float | None = None
        self.resident_when_ready = 0
        self.death: asyncio.Future[Death] = self._loop.create_future()
        self.hello: asyncio.Future[bytes | Death] = self._loop.create_future()
        self._answer: asyncio.Future[bytes | Death] | None = self.hello
        self._loop.add_reader(self._socket, self._readable)

    def ready(self) -> None:
        """Its first answer was good: note what it looks like when fresh."""
        self.ready_since = time.monotonic()
        self.resident_when_ready = self.resident_bytes()

    def ask(self, message: bytes, fds: Sequence[int]) -> asyncio.Future[bytes | Death]:
        """Send a job; the future gets the answer, or how the worker ended. It never raises."""
        self.jobs += 1
        answer: asyncio.Future[bytes | Death] = self._loop.create_future()
        if not self.alive:
            self.death.add_done_callback(lambda death: answer.set_result(death.result()))
            return answer
        self._answer = answer
        try:
            socket.send_fds(self._socket, [message], fds)
        except OSError:
            self.end("idle")
        return answer

    def end(self, reason: str) -> None:
        """Kill it now; the first caller's `reason` counts."""
        if not self.alive:
            return
        self.alive = False
        self.reason = reason
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._process.kill()
        self._on_end(self)
        self._bury(FIRST_LOOK_S)

    def limit_cpu(self, seconds: float) -> None:
        """Let the kernel end the worker (SIGXCPU) when it has used `seconds` more of a processor.

        A second fence behind the wall clock: it also holds while this process is too busy to look.
        """
        with suppress(OSError, ValueError):
            used = time.clock_gettime(_cpu_clock(self.pid))
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)
            # Whole seconds, and the kernel checks at most once a second.
            soft = math.ceil(used + seconds) + 1
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (soft, hard))

    def resident_bytes(self) -> int:
        """Physical memory of the worker's own, libraries aside; 0 where the system does not say."""
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
            self.end(self._what_it_was_at())
        elif self._answer is None or len(packet) > MAX_MESSAGE_BYTES:
            self.end("garbage")
        else:
            answer, self._answer = self._answer, None
            answer.set_result(packet)

    def _what_it_was_at(self) -> str:
        if self.ready_since is None:
            return "start"
        return "crash" if self._answer is not None else "idle"

    def _bury(self, look_again_s: float) -> None:
        code = self._process.poll()
        if code is None:
            longer = min(2 * look_again_s, LONGEST_LOOK_S)
            self._loop.call_later(look_again_s, self._bury, longer)
            return
        death = Death(_cause(self.reason, code), code)
        self.death.set_result(death)
        if self._answer is not None:
            self._answer.set_result(death)


def _cause(reason: str, exit_code: int) -> str:
    """What the exit status says of a worker that died by itself."""
    if reason != "crash":
        return reason
    return {-signal.SIGXCPU: "cpu", -signal.SIGSYS: "forbidden"}.get(exit_code, "crash")


def _start(command: Sequence[str], stdin: socket.socket) -> subprocess.Popen[bytes]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment |= {name: os.environ[name] for name in INHERITED if name in os.environ}
    return subprocess.Popen(
        list(command),
        env=environment,
        cwd="/",
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        # Ctrl-C on a terminal is for the service, which drains first.
        start_new_session=True,
    )


def _cpu_clock(pid: int) -> int:
    """The clock of a process's processor time, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
