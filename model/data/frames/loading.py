"""Batches out of decoding workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from model.data.config import DataConfig
from model.data.frames.order import Draw, Plan
from model.data.frames.reading import Broken, TestClip, TestClips, TrainingClip, TrainingClips
from model.data.parent_death import end_with


@dataclass(frozen=True)
class Batch:
    """A micro-batch: frames uint8 (B,T,H,W,3), and for each clip its place in the list, class
    and drawn wording (B,).
    """

    frames: Tensor
    indices: Tensor
    labels: Tensor
    wordings: Tensor
    passed_over: tuple[Broken, ...]

    def pin_memory(self) -> Batch:
        """Page-locked frames, which reach a GPU without waiting."""
        return replace(self, frames=self.frames.pin_memory())


def collate(clips: Sequence[TrainingClip]) -> Batch:
    """Clips to one batch."""
    return Batch(
        torch.from_numpy(np.stack([clip.frames for clip in clips])),
        torch.tensor([clip.index for clip in clips]),
        torch.tensor([clip.label for clip in clips]),
        torch.tensor([clip.wording for clip in clips]),
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
    """The micro-batches of a process, from update `start` to `stop`, in one go over all epochs.

    `pinned` puts their frames into page-locked memory: for a GPU.
    """
    loader: DataLoader[Any] = DataLoader(
        clips,
        batch_sampler=_Draws(plan, rank, start, stop),
        collate_fn=collate,
        pin_memory=pinned,
        **worker_options(config),
    )
    return iter(loader)


def test_clips(clips: TestClips, indices: Iterable[int], config: DataConfig) -> Iterator[TestClip]:
    """The clips with these places, in this order."""
    loader: DataLoader[Any] = DataLoader(
        clips,
        sampler=list(indices),
        batch_size=None,
        **worker_options(config),
    )
    return iter(loader)


def worker_options(config: DataConfig) -> dict[str, Any]:
    """How a loader is to use its decoding processes."""
    options: dict[str, Any] = {
        "num_workers": config.workers,
        "worker_init_fn": partial(_settle_in, os.getpid()),
        # Draws the seeds of workers, which have their own; the global state is left alone.
        "generator": torch.Generator(),
    }
    if config.workers:
        options["prefetch_factor"] = config.prefetch
    return options


def _settle_in(parent: int, _worker: int) -> None:
    """Take one thread, and leave signals to the run, which ends its workers when it is ready.

    In a process group of their own they hear neither Ctrl-C nor what is sent to the run's group.
    """
    end_with(parent)
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # not the run's own, which the fork copied
    torch.set_num_threads(1)
