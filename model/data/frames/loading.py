"""Clips out of decoding workers, and batches of them.

Workers hand over NumPy arrays, which go through a pipe. Tensors would go through /dev/shm, of
which a container has 64 MB by default: a worker that finds it full loses the batch, and the loader
waits for it for ever. Through the pipe it is as fast (9.6 MB batches, 2 cores: 32 a second, 31
through /dev/shm).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.command_line import one_line
from model.data.config import DataConfig
from model.data.errors import DataError
from model.data.frames.order import Draw, Plan
from model.data.frames.reading import Broken, TestClip, TestClips, TrainingClip, TrainingClips
from model.data.parent_death import end_with
from model.progress import progress_console

Item = TypeVar("Item")
SEMAPHORES, OWN_QUEUES = 3, 4  # of a queue; those that the loader has besides one for each worker


@dataclass(frozen=True)
class Batch:
    """A micro-batch: frames uint8 (B,T,H,W,3), and for each clip its index in the list, class
    and drawn wording (B,).
    """

    frames: Tensor
    indices: Tensor
    labels: Tensor
    wordings: Tensor
    passed_over: tuple[Broken, ...]


@dataclass(frozen=True)
class _Arrays:
    """A batch on its way from a worker, as NumPy arrays."""

    frames: NDArray[np.uint8]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    wordings: NDArray[np.int64]
    passed_over: tuple[Broken, ...]

    def batch(self) -> Batch:
        """Return the batch, which shares the arrays' memory."""
        return Batch(
            torch.from_numpy(self.frames),
            torch.from_numpy(self.indices),
            torch.from_numpy(self.labels),
            torch.from_numpy(self.wordings),
            self.passed_over,
        )

    def pin_memory(self) -> Batch:
        """Return the batch with page-locked frames, which reach a GPU without waiting."""
        batch = self.batch()
        return replace(batch, frames=batch.frames.pin_memory())


def _collate(clips: Sequence[TrainingClip]) -> _Arrays:
    return _Arrays(
        np.stack([clip.frames for clip in clips]),
        np.array([clip.index for clip in clips]),
        np.array([clip.label for clip in clips]),
        np.array([clip.wording for clip in clips]),
        tuple(broken for clip in clips for broken in clip.passed_over),
    )


class _Draws:
    """A fixed run of draws as the loader's batch sampler."""

    def __init__(self, plan: Plan, rank: int, start: int, stop: int) -> None:
        self.plan, self.rank, self.start, self.stop = plan, rank, start, stop

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.plan.draws(self.rank, self.start, self.stop)

    def __len__(self) -> int:
        return (self.stop - self.start) * self.plan.micro_batches


def training_batches(
    clips: TrainingClips,
    plan: Plan,
    rank: int,
    start: int,
    stop: int,
    config: DataConfig,
    *,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Load the micro-batches of a process, from update `start` to `stop`, over all epochs.

    Args:
        clips: what is drawn from.
        plan: which clips are drawn in which update.
        rank: of this process.
        start: first update.
        stop: the update after the last.
        config: how many workers there are, and how far they work ahead.
        pinned: put frames into page-locked memory, for a GPU.

    Raises:
        DataError: Too many clips cannot be decoded, or a worker has ended.
    """
    arrays = _from_workers(
        _Guarded(clips),
        config,
        batch_sampler=_Draws(plan, rank, start, stop),
        pin_memory=pinned,
    )
    return (part if isinstance(part, Batch) else part.batch() for part in arrays)


def evaluation_clips(
    clips: TestClips, indices: Iterable[int], config: DataConfig
) -> Iterator[TestClip]:
    """Load the clips with these indices, in this order."""
    return in_workers(clips, config, list(indices))


def in_workers(
    items: Dataset[Item], config: DataConfig, indices: Sequence[int] | None = None
) -> Iterator[Item]:
    """Load items, all or those with these indices, in order.

    Raises:
        DataError: A worker has ended, or run out of memory.
    """
    return _from_workers(_Guarded(items), config, sampler=indices, batch_size=None)


@dataclass(frozen=True)
class _Failure:
    """Why a worker could not go on."""

    reason: str


class _Guarded(Dataset[Any], Generic[Item]):
    """Hands mistakes over as values: raised in a worker they would come with its traceback."""

    def __init__(self, items: Dataset[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Item | _Failure:
        try:
            return self.items[index]
        except (DataError, MemoryError) as error:
            return _failure(error)

    def __getitems__(self, draws: Sequence[Draw]) -> _Arrays | _Failure:
        try:
            return _collate(self.items.__getitems__(draws))  # type: ignore[attr-defined]
        except (DataError, MemoryError) as error:
            return _failure(error)


def _failure(error: DataError | MemoryError) -> _Failure:
    if isinstance(error, DataError):
        return _Failure(one_line(error))
    return _Failure("there is not enough memory to decode: set a lower data.workers (--workers)")


def _from_workers(items: _Guarded[Any], config: DataConfig, **options: Any) -> Iterator[Any]:
    return _checked(_started(items, config, options))


def _started(items: _Guarded[Any], config: DataConfig, options: dict[str, Any]) -> Iterator[Any]:
    loader = partial(
        DataLoader,
        items,
        collate_fn=_as_it_is,
        # Draws the seeds of workers, which have their own; the global state is left alone.
        generator=torch.Generator(),
        **options,
    )
    if not config.workers or not _semaphores_work(config.workers):
        return iter(loader())
    return iter(
        loader(
            num_workers=config.workers,
            prefetch_factor=config.prefetch,
            worker_init_fn=partial(_settle_in, os.getpid()),
        )
    )


def _semaphores_work(workers: int) -> bool:
    """Return whether so many workers can be had: their queues need semaphores, each of which takes
    a page of /dev/shm. A loader that comes to the end of it half way is not tidied up.
    """
    try:
        _ = [multiprocessing.Semaphore(1) for _ in range(SEMAPHORES * (workers + OWN_QUEUES))]
    except OSError as error:
        _say_once(
            f"no decoding workers can be started, /dev/shm takes nothing ({error.strerror}; docker "
            "run has --shm-size): clips are decoded in this process"
        )
        return False
    return True


@cache
def _say_once(line: str) -> None:
    """Print a line that holds for all workers of a command, which has them many times over."""
    progress_console().print(line, markup=False)


def _checked(items: Iterator[Any]) -> Iterator[Any]:
    with worker_deaths_told():
        for item in items:
            if isinstance(item, _Failure):
                # The error keeps this frame: left to a collection of garbage, which takes their
                # queues first, workers would be waited for, five seconds each.
                del items
                raise DataError(item.reason)
            yield item


@contextmanager
def worker_deaths_told() -> Iterator[None]:
    """Turn what the loader says of a dead worker into a DataError.

    The loader raises wherever the main thread is when the system tells of the death: a run has
    this around all of its work.
    """
    try:
        yield
    except RuntimeError as error:
        # What the system said is the cause of what the loader said, where that came later.
        message = one_line(f"{error} {error.__cause__ or ''}")
        if "DataLoader worker" not in message:
            raise
        reason = message.partition("signal: ")[2].partition(".")[0] or "it ended by itself"
        raise DataError(
            f"a decoding worker is gone ({reason}): if memory is short, set a lower data.workers "
            "or data.prefetch (--workers), or 0 workers; python -m model.data check looks at the "
            "clips"
        ) from None


def _as_it_is(item: Any) -> Any:
    return item


def _settle_in(parent: int, _worker: int) -> None:
    """Take one thread, and leave signals to the run, which ends its workers when it is ready.

    In a process group of their own they hear neither Ctrl-C nor what is sent to the run's group.
    """
    end_with(parent)
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # not the run's own, which the fork copied
    torch.set_num_threads(1)
