"""The order in which clips are drawn: a function of the seed alone, so it can be drawn again.

One global order an epoch, cut into batches; the processes of a run take turns in micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.errors import DataError
from model.data.frames.streams import Stream, generator


@dataclass(frozen=True)
class Draw:
    """One clip of one batch: its place in the list, in the order of which epoch, and there where.

    Everything random about it follows from the seed, the epoch and the position.
    """

    index: int
    seed: int
    epoch: int
    position: int

    def rng(self, stream: Stream, attempt: int = 0) -> np.random.Generator:
        """Make the generator for one purpose; each attempt at a clip draws anew."""
        return generator(self.seed, stream, self.epoch, self.position, attempt)


@dataclass(frozen=True)
class Plan:
    """How a list is cut into updates: `batch` clips each, `micro_batch` at a time.

    What is left of an epoch after the last whole batch is not drawn in it.
    """

    clips: int
    batch: int
    micro_batch: int
    processes: int
    seed: int
    balanced: tuple[int, ...] = ()
    """The class of each clip, where every class is drawn equally often; empty: every clip is."""

    def __post_init__(self) -> None:
        if self.batch % (self.micro_batch * self.processes):
            raise DataError(
                f"batch.size {self.batch} cannot be cut into micro-batches of {self.micro_batch} "
                f"for {self.processes} processes: change batch.size or batch.per_process"
            )
        if self.clips < self.batch:
            raise DataError(
                f"the list has {self.clips} clips, less than one batch of {self.batch}: set a "
                "smaller batch.size"
            )

    @property
    def updates_per_epoch(self) -> int:
        """Count the optimiser updates of one epoch."""
        return self.clips // self.batch

    @property
    def micro_batches(self) -> int:
        """Count the micro-batches that each process accumulates for one update."""
        return self.batch // (self.micro_batch * self.processes)

    def draws(self, rank: int, start: int, stop: int) -> Iterator[list[Draw]]:
        """Yield the micro-batches of a process from update `start` up to `stop`."""
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for update in range(start, stop):
            if update // self.updates_per_epoch != epoch:
                epoch = update // self.updates_per_epoch
                order = self._order(generator(self.seed, Stream.ORDER, epoch))
            first = (update % self.updates_per_epoch) * self.batch
            for turn in range(self.micro_batches):
                here = first + (turn * self.processes + rank) * self.micro_batch
                yield [
                    Draw(int(order[position]), self.seed, epoch, position)
                    for position in range(here, here + self.micro_batch)
                ]

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the clips of an epoch in the order that they are drawn in."""
        if not self.balanced:
            return rng.permutation(self.clips)
        classes = np.array(self.balanced)
        present = rng.permutation(np.unique(classes))
        quotas = np.full(len(present), self.clips // len(present))
        quotas[: self.clips % len(present)] += 1
        drawn = []
        for label, quota in zip(present, quotas, strict=True):
            own = np.flatnonzero(classes == label)
            # Each clip of a class comes up as often as the others before it comes up again.
            rounds = [rng.permutation(own) for _ in range(-(-int(quota) // len(own)))]
            drawn.append(np.concatenate([*rounds, own[:0]])[:quota])
        return rng.permutation(np.concatenate(drawn))
