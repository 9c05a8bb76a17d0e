"""What one network makes of the clips, in a process of its own: so its memory is its own as well,
and one that is killed takes nobody with it. N clips, K labels.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.command_line import one_line
from model.data.parent_death import end_with
from model.evaluate.comparison.frames import KeptFrames
from model.evaluate.errors import EvaluateError
from model.evaluate.scorer import label_vectors
from model.evaluate.sources import Source, open_source
from model.inputs import InputSpec
from model.progress import progress

Result = TypeVar("Result")


@dataclass(frozen=True)
class Contender:
    """A network or bundle to be compared, and how it is opened; goes to its process as it is."""

    source: str
    device: str = "auto"
    templates: tuple[str, ...] | None = None

    def open(self) -> Source:
        """Load it. ValueErrors and OSErrors say in a line what is wrong."""
        return open_source(self.source, self.device, self.templates)


@dataclass(frozen=True)
class Facts:
    """What is known of a network without asking it; `bytes` are those of its weights."""

    name: str
    variant: str
    runs_in: str
    inputs: InputSpec
    templates: tuple[str, ...]
    bytes: int
    licence: str | None


@dataclass(frozen=True)
class Answers:
    """Softmax over the labels float32 (N,K) of each clip, the median milliseconds of a clip, and
    the largest resident memory of the process in bytes.
    """

    scores: NDArray[np.float32]
    clip_ms: float
    memory_bytes: int


def facts_of(contender: Contender) -> Facts:
    """Load a network in a process of its own, and say what it is.

    Raises:
        EvaluateError: It cannot be loaded, and why.
    """
    return _alone(contender.source, _describe, contender)


def answers_of(
    contender: Contender, kept: KeptFrames, indices: Sequence[int], labels: Sequence[str]
) -> Answers:
    """Ask a network, in a process of its own, about clips whose frames are kept.

    Args:
        contender: The network.
        kept: The frames.
        indices: Of the N clips in their list.
        labels: The K labels.

    Raises:
        EvaluateError: It cannot answer, and why.
    """
    return _alone(contender.source, _answer, contender, kept, tuple(indices), tuple(labels))


def _alone(name: str, work: Callable[..., Result | str], *arguments: object) -> Result:
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn, _settle_in, (os.getpid(),)) as process:
            result = process.submit(work, *arguments).result()
    except BrokenProcessPool:
        raise EvaluateError(
            f"{name}: its process was ended from outside; most likely memory is short"
        ) from None
    if isinstance(result, str):
        raise EvaluateError(result)
    return result


def _settle_in(parent: int) -> None:
    """End with the run, and at its Ctrl-C without a word."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _describe(contender: Contender) -> Facts | str:
    try:
        source = contender.open()
    except (ValueError, OSError) as error:
        return one_line(error)
    scorer = source.scorer
    return Facts(
        source.name,
        source.network,
        source.runs_in,
        scorer.inputs,
        scorer.templates,
        source.bytes,
        source.licence,
    )


def _answer(
    contender: Contender, kept: KeptFrames, indices: Sequence[int], labels: Sequence[str]
) -> Answers | str:
    try:
        source = contender.open()
        scorer = source.scorer
        texts = label_vectors(scorer, labels)
        rows, seconds = [], []
        with progress(f"asking {source.name}", len(indices)) as on_clip:
            for position, index in enumerate(indices):
                frames = kept.read(index, scorer.inputs)
                if not position:
                    scorer.logits(frames, texts)  # memory and kernels are had at the first call
                started = time.perf_counter()
                logits = scorer.logits(frames, texts)[0].astype(np.float64)
                seconds.append(time.perf_counter() - started)
                weights = np.exp(logits - logits.max())
                rows.append((weights / weights.sum()).astype(np.float32))
                on_clip()
    except (ValueError, OSError) as error:
        return f"{contender.source}: {one_line(error)}"
    return Answers(np.stack(rows), 1000 * float(np.median(seconds)), _peak_memory())


def _peak_memory() -> int:
    """Return the most memory that this process has held, in bytes; 0 where that is not told."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(ln.split()[1]) for ln in lines if ln.startswith("VmHWM")), 0)
