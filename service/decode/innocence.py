"""Whether a worker died of the clip that it had."""

from __future__ import annotations

from service.decode.ending import OUT_OF_TIME, Ending
from service.decode.process import WorkerExit, WorkerProcess


def may_be_innocent(exited: WorkerExit, worker: WorkerProcess) -> bool:
    """Return whether the worker may have died of something other than this clip.

    It was dead before it got the clip, or an earlier clip may have left it damaged.
    """
    if exited.ending in OUT_OF_TIME:
        return False
    return exited.ending is Ending.IDLE or worker.jobs > 1
