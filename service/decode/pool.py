"""A pool of confined decode workers. Parent side, one event loop.

One worker more than may work at once stands by loaded: killing one costs the next clip nothing,
and a slow clip does not hold up all others. Whatever a file does to its worker, the worker is
replaced and only that file's sender is affected.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

from model.inputs.clip import Clip
from model.inputs.limits import VideoLimits
from model.inputs.sampling import FrameChoice
from model.inputs.spec import InputSpec
from model.inputs.windows import Cut
from service.decode.clip_pool import ClipPool
from service.decode.handover import Handover
from service.decode.job_queue import JobQueue
from service.decode.options import PoolOptions
from service.decode.process import WORKER
from service.decode.protocol import Confinement, Crops, Setup
from service.decode.stats import PoolStats
from service.decode.supervisor import Supervisor
from service.decode.syscalls import FilterUnavailable, compile_filter
from service.decode.window_pool import Part, WindowPool
from service.decode.windows import windows_job
from service.sharing.costs import Charge, free

# The sampled frames, stacked, put in order and made contiguous: that many copies at once.
COPIES_OF_FRAMES = 3


class DecodePool:
    """Decode clips in worker processes that can be lost.

    Args:
        workers: Clips to decode at once; spares may run beside slow ones.
        spec: What the network wants of each clip.
        limits: What a video may have; None takes the defaults.
        options: Limits of one job and the life of a worker; None takes the defaults.
        command: What starts a worker; for tests of workers that misbehave.
        charge: Told how long each client has had a worker.
    """

    def __init__(
        self,
        workers: int,
        spec: InputSpec,
        limits: VideoLimits | None = None,
        options: PoolOptions | None = None,
        *,
        command: Sequence[str] = WORKER,
        charge: Charge = free,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.workers = workers
        self.options = options or PoolOptions()
        self.stats = PoolStats()
        self._spec = spec
        self._limits = limits or VideoLimits()
        spares = self.options.spares
        self._supervisor = Supervisor(workers + spares, command, self.options, self.stats)
        self._queue = JobQueue(self._supervisor, workers, spares, self.stats, charge)
        self._handover = Handover(workers, self._supervisor, self._queue, self.options)
        self._clips = ClipPool(spec, self.options, self._queue, self._handover, self.stats)
        self._videos = WindowPool(
            workers, spec, self.options, self._queue, self._handover, self.stats
        )
        self._started = False

    @property
    def fault(self) -> str | None:
        """Why the last job could not be handed to a worker, where that was this system's fault."""
        return self._handover.fault

    @property
    def alive(self) -> bool:
        """Whether jobs can be done.

        False before the start, after the stop, and when no worker can be started any more. A pool
        that only replaces its workers is alive.
        """
        return self._supervisor.alive

    @property
    def sandbox(self) -> dict[str, str]:
        """Each measure of confinement, and "yes" or why it does not hold."""
        return dict(self._supervisor.sandbox)

    @property
    def waiting(self) -> int:
        """Number of clips that no worker has begun."""
        return self._queue.waiting + self._videos.waiting

    @property
    def running(self) -> int:
        """Number of clips being decoded."""
        return self._queue.running

    @property
    def ready(self) -> int:
        """Number of workers that are loaded and confined, at work or not."""
        return self._supervisor.ready

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return self._supervisor.pids

    async def start(self, at_first: int | None = None) -> None:
        """Start the workers and wait until they are ready.

        Call on the thread whose event loop will use the pool.

        Args:
            at_first: Start only so many; `complete` starts the others. None starts all.

        Raises:
            DecodeUnavailable: No worker can be started.
        """
        if self._started:
            raise RuntimeError("the pool was started before")
        self._started = True
        await self._supervisor.start(self._setup(), at_first)

    def complete(self) -> None:
        """Start the workers that were left out at first, without waiting for them."""
        self._supervisor.complete()

    async def stop(self) -> None:
        """End every worker, whatever it is doing; jobs that wait get DecodeUnavailable."""
        await self._supervisor.stop()
        self._queue.dispatch()

    async def decode(
        self,
        source: int | Path,
        *,
        views: int = 1,
        crops: Crops = 1,
        start: float | None = None,
        end: float | None = None,
        frame_rule: FrameChoice = "exact",
        deadline: float | None = None,
        client: str = "",
    ) -> Clip:
        """Decode an upload.

        Cancelling drops a clip that waits; one that is being decoded is ended shortly after.

        Args:
            source: Descriptor of an open file, or a path of the service's own.
            views: Temporal views, 1 to `max_views` with crops counted.
            crops: Spatial crops of each frame, 1 or 3.
            start: First second to use; None begins with the first frame.
            end: Last second to use; None ends with the last frame.
            frame_rule: Which frame of each segment is taken; auto goes by the options' budget.
            deadline: A `time.monotonic()` after which the job is given up; None has no deadline.
            client: Whose clip it is; the clients are served in turn.

        Returns:
            The clip. Its frames are uint8 (views × crops, frames, side, side, 3), read-only.

        Raises:
            VideoError: Something is wrong with the video (DecodeTimeout, DecodeCrashed and
                TooDemanding among them).
            TimeoutError: The deadline passed before a worker was free.
            DecodeUnavailable: No worker can be had.
        """
        job = self._clips.job(views, crops, start, end, frame_rule)
        return await self._clips.decode(source, job, deadline, client)

    def windows(
        self,
        source: int | Path,
        cut: Cut,
        *,
        batch: int = 1,
        start: float | None = None,
        end: float | None = None,
        frame_rule: Literal["exact", "keyframes"] = "exact",
        client: str = "",
    ) -> AsyncGenerator[Part, None]:
        """Decode an upload once, in windows; see `read_windows`.

        A worker is held until the iterator ends; close it to end the work at once.

        Args:
            source: Descriptor of an open file, or a path of the service's own.
            cut: How the video is cut.
            batch: How many windows to give at a time, where so many fit the memory of a worker.
            start: Second at which the first window starts; None for the beginning.
            end: Second at which the last window ends; None for the end.
            frame_rule: Which frame of each segment of a window is taken.
            client: Whose video it is; the clients are served in turn.

        Returns:
            `VideoBegun`, then `DecodedWindows`; the worker is at the next ones meanwhile. The
            iterator raises as `decode` does.
        """
        job = windows_job(
            cut, self._spec, self.options, batch=batch, start=start, end=end, frame_rule=frame_rule
        )
        return self._videos.decode(source, job, client)

    def _setup(self) -> Setup:
        program, missing = "", ""
        try:
            program = compile_filter()
        except FilterUnavailable as error:
            missing = str(error)
        one_view = self._spec.num_frames * self._spec.image_size**2 * 3
        frames = one_view * self.options.max_views
        return Setup(
            spec=self._spec,
            limits=self._limits,
            confinement=Confinement(
                memory_bytes=self.options.memory_bytes + COPIES_OF_FRAMES * frames,
                shared_bytes=frames,
                open_files=self.options.open_files,
                libav_alloc_bytes=self.options.libav_alloc_bytes,
                seccomp_program=program,
                seccomp_missing=missing,
            ),
        )
