"""Worker processes that end with the process they work for, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent, by process id, ends. Linux only.

    A loader's worker looks for its parent between two batches, and when it finds it gone waits
    until its results are taken: by nobody, while a brother holds the other end of the pipe.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be told
        os.kill(os.getpid(), signal.SIGKILL)
