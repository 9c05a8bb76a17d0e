"""How a pool runs its workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20
MOST_WINDOWS = 100_000  # of one video
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class PoolOptions(BaseModel):
    """Limits of one decode job and the life of a worker.

    Attributes:
        max_decode_s: Seconds of wall time for a job; the same is allowed of processor time.
        budget_s: Seconds of processor time that the exact frame rule may take by `auto`.
        memory_bytes: What a job may allocate beside the frames it returns.
        libav_alloc_bytes: The largest single allocation of FFmpeg; a picture as RGB is one.
        open_files: Descriptors of a worker.
        spares: Workers that stand by beyond those that may work at once: for one that is killed,
            and for clips behind a slow one.
        slow_after_s: Seconds after which a job counts as slow.
        small_s: Seconds of processor time, as planned, up to which a clip may have a spare.
        jobs_per_worker: Clips that a worker decodes before it is replaced, never more.
        max_growth_bytes: A worker that holds so much more than when it was fresh is replaced.
        max_views: Views times crops of a job.
        cancel_grace_s: Seconds within which a worker must stop decoding what nobody wants any
            more: before its next packet, as a rule. Else it is killed, and a new one costs more.
        max_timeline_s: The same for a video in windows, which has as long as it lasts on top.
        start_timeout_s: Seconds within which a worker must be ready.
        sandbox: "require" uses no worker that lacks a measure of confinement.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_decode_s: Seconds = 8.0
    budget_s: Seconds = 2.0
    memory_bytes: Positive = 792 * MIB
    libav_alloc_bytes: Positive = 96 * MIB
    open_files: Positive = 16
    spares: Annotated[int, Field(ge=0)] = 1
    slow_after_s: Seconds = 1.0
    small_s: Seconds = 0.25
    jobs_per_worker: Positive = 500
    max_growth_bytes: Positive = 48 * MIB
    max_views: Positive = 10
    cancel_grace_s: Annotated[float, Field(ge=0)] = 0.25
    max_timeline_s: Seconds = 600.0
    start_timeout_s: Seconds = 30.0
    sandbox: Literal["require", "warn"] = "warn"
