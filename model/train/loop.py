"""A training run: data → loss → step → log → evaluate → save."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import torch

from model.data.frames.loading import Batch, training_batches, worker_deaths_told
from model.evaluate.run import Views, evaluate
from model.evaluate.scores import Scores
from model.processes import joined
from model.train.config import TrainConfig
from model.train.export_run import export_run
from model.train.glibc_malloc import keep_freed_memory
from model.train.progress import Display, Pace
from model.train.record import Record
from model.train.resume import save, write_config
from model.train.run import Run, prepare

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The run was asked to stop, and stands saved."""


def train(config: TrainConfig) -> Path:
    """Train, or go on training; the folder of the finished native checkpoint.

    Raises TrainError, DataError and the like with one line that says what to do.
    """
    with joined(config.compute.device) as processes, worker_deaths_told():
        if processes.device.type == "cpu":
            keep_freed_memory()
        run = prepare(config, processes)
        with (
            run.snapshots.going_on_when_full(str(config.output)),
            Display(run.first, run.updates, config.log.every_updates, processes.leads) as display,
            _record(run) as record,
            _asked_to_stop() as asked,
        ):
            for note in (*run.notes, run.summary()):
                display.say(note)
            scores = _go_through(run, display, record, asked)
            checkpoint = export_run(run, scores, display) if processes.leads else None
            processes.wait()
    return checkpoint or config.output


def _go_through(
    run: Run, display: Display, record: Record | None, asked: list[int]
) -> Scores | None:
    """Go through all updates that are left; return the scores of the last evaluation."""
    scores, pace = None, Pace(run.plan.batch)
    if run.first == 0 and run.validation is not None and run.config.evaluate.at_start:
        _evaluate(run, display, record, 0)
    batches = _Batches(run)
    for number in range(run.first, run.updates):
        began = time.perf_counter()
        outcome = run.updater.update(number, batches)
        pace.add(time.perf_counter() - began, batches.waited())
        display.update(number, outcome.loss, outcome.lr, pace)
        if record:
            record.update(number, outcome, pace, (number + 1) / run.plan.updates_per_epoch)
        stop = bool(run.processes.summed(torch.tensor(len(asked))))
        if stop or run.save_due(number + 1):
            _save(run, number + 1)
        if stop:
            raise Interrupted(
                f"stopped after update {number + 1} of {run.updates}, saved; the same command "
                "goes on from there"
            )
        if run.evaluation_due(number + 1):
            scores = _evaluate(run, display, record, number + 1)
    if scores is None and run.validation is not None:  # it was all done and recorded before
        scores = _evaluate(run, display, None, run.updates)
    return scores


class _Batches:
    """The micro-batches of the run, with the time spent waiting for them and their broken clips
    counted.
    """

    def __init__(self, run: Run) -> None:
        first, last = run.first, run.updates
        self._batches = training_batches(
            run.training,
            run.plan,
            run.processes.rank,
            first,
            last,
            run.config.data,
            pinned=run.processes.device.type == "cuda",
        )
        self._run, self._waited = run, 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        began = time.perf_counter()
        batch = next(self._batches)
        self._waited += time.perf_counter() - began
        self._run.broken.add(batch.passed_over)
        return batch

    def waited(self) -> float:
        """Return seconds since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited


def _save(run: Run, done: int) -> None:
    run.broken.share(run.processes)
    if run.processes.leads:
        save(run.snapshots, done, run.initial, run.updater, run.broken, run.name)
    run.processes.wait()


def _evaluate(run: Run, display: Display, record: Record | None, done: int) -> Scores:
    assert run.validation is not None
    net, views, clips = run.initial.net, run.config.evaluate, run.validation.clips
    net.eval()
    with display.measuring(math.ceil(len(clips) / run.processes.count)) as on_clip:
        scores = evaluate(
            run.scorer(),
            clips,
            Views(views.views, views.crops, views.batch),
            run.config.data,
            run.processes,
            on_clip,
            run.validation,
        )
    net.train()
    when = f"after update {done}" if done else "before the first update"
    display.say(
        f"{when}: top-1 {scores.top(1):.2%}, top-5 {scores.top(5):.2%} of {len(scores.truth)} clips"
    )
    if record:
        record.write(done - 1, val_top1=scores.top(1), val_top5=scores.top(5))
    return scores


def _record(run: Run) -> Record | nullcontext[None]:
    if not run.processes.leads:
        return nullcontext()
    write_config(run.config)
    return Record(run.config.output, run.first, run.config.log.tensorboard)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Yield the signals that come in: the run ends after the update at hand, saved.

    A signal that is ignored from outside stays so: that is what nohup does with SIGHUP.
    """
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    heard = [n for n in STOPS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
