"""A decode worker that answers about windows what its upload tells it to: a JSON list of steps.

A step is a message (`OF THE JOB` stands for the ticket), `"wait"` until told anything, `"shrink"`
the memory for frames, `"hang"` or `"die"`. The last message ends the job.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from contextlib import suppress
from typing import Any, BinaryIO

from service.decode import window_worker, worker
from service.decode.protocol import Setup
from service.decode.unwanted import Unwanted
from service.decode.window_protocol import WindowsJob


class Raw:
    """A message of arbitrary bytes."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet

    def to_bytes(self) -> bytes:
        return self.packet


def lie(source: BinaryIO, memory: int, job: WindowsJob, _: Setup, parent: socket.socket) -> Any:
    *steps, last = json.loads(source.read())
    for step in steps:
        if step == "wait":
            with suppress(Unwanted):
                window_worker.wait_until_asked(job, parent)
        elif step == "shrink":
            os.ftruncate(memory, 1)
        elif step == "hang":
            time.sleep(10_000)
        elif step == "die":
            ctypes.string_at(0)
        else:
            parent.send(packet(step, job))
    return Raw(packet(last, job))


def packet(message: Any, job: WindowsJob) -> bytes:
    return json.dumps(message).replace("OF THE JOB", job.ticket).encode()


setattr(worker, "serve_windows", lie)  # noqa: B010

if __name__ == "__main__":
    worker.run()
