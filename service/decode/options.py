"""How a pool runs its workers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class PoolOptions(BaseModel):
    """Limits of one decode job and the life of a worker.

    `max_decode_s` is wall time; the same is allowed of processor time. `memory_bytes` bounds what a
    job may allocate beside the frames it returns; `max_views` bounds those, views times crops.
    `spares` workers stand by beyond those that may work at once: for one that is killed, and for
    clips behind one that has been at it for `slow_after_s`. A worker is replaced after
    `jobs_per_worker` clips, or when it holds `max_growth_bytes` more than when it was fresh. A clip
    whose sender left is given `cancel_grace_s` to finish before its worker is killed: most do, and
    a new worker costs more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_decode_s: Seconds = 8.0
    memory_bytes: Positive = 256 * MIB
    libav_alloc_bytes: Positive = 64 * MIB
    open_files: Positive = 16
    spares: Annotated[int, Field(ge=0)] = 1
    slow_after_s: Seconds = 1.0
    jobs_per_worker: Positive = 500
    max_growth_bytes: Positive = 48 * MIB
    max_views: Positive = 10
    cancel_grace_s: Annotated[float, Field(ge=0)] = 0.25
    start_timeout_s: Seconds = 30.0
