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

from model.command_line import one_line
from model.data.frames.loading import Batch, training_batches, worker_deaths_told
from model.evaluate.run import Views, evaluate
from model.evaluate.scores import Scores
from model.processes import joined
from model.train.best import figures
from model.train.config import TrainConfig
from model.train.errors import OutOfMemory, TrainError
from model.train.export_run import export_run
from model.train.glibc_malloc import keep_freed_memory
from model.train.progress import Display, Pace
from model.train.record import Record
from model.train.resume import save, write_config
from model.train.run import Run, prepare
from model.train.update import Outcome, is_out_of_memory

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
    """Go through all updates that are left; return the scores of the network that is taken."""
    scores, pace = None, Pace(run.plan.batch)
    if run.evaluation_due(run.first):  # the start, or a run that was stopped before it
        scores = _evaluate(run, display, record, run.first)
        if run.first and run.best.update == run.first:
            _save(run, run.first)
    batches = _Batches(run, run.first)
    for number in range(run.first, run.updates):
        if run.best.patience_is_over:
            break
        began = time.perf_counter()
        outcome, batches = _update(run, number, batches, display)
        pace.add(time.perf_counter() - began, batches.waited())
        display.update(number, outcome.loss, outcome.lr, pace)
        if record:
            record.update(number, outcome, pace, (number + 1) / run.plan.updates_per_epoch)
        done = number + 1
        stop = bool(run.processes.summed(torch.tensor(len(asked))))
        if not stop and run.evaluation_due(done):
            scores = _evaluate(run, display, record, done)
        over = run.best.patience_is_over
        if stop or over or run.save_due(done) or run.best.update == done:
            _save(run, done)
        if stop:
            raise Interrupted(
                f"stopped after update {number + 1} of {run.updates}, saved; the same command "
                "goes on from there"
            )
    if run.best.patience_is_over:
        display.say(
            f"ended after update {run.best.measured} of {run.updates}: {run.best.since} "
            f"evaluations in a row were no better (schedule.patience)"
        )
    another = run.take_best()
    if run.validation is not None and (another or scores is None):
        scores = _measured(run, display)
    return scores


class _Batches:
    """The micro-batches of the run, with the time spent waiting for them and their broken clips
    counted.
    """

    def __init__(self, run: Run, first: int) -> None:
        self._batches = training_batches(
            run.training,
            run.plan,
            run.processes.rank,
            first,
            run.updates,
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


def _update(run: Run, number: int, batches: _Batches, display: Display) -> tuple[Outcome, _Batches]:
    """Make an update; where memory does not suffice with fewer clips at a time, which stays so."""
    while True:
        before = run.plan.micro_batch
        try:
            return run.updater.update(number, batches), batches
        except OutOfMemory as error:
            if not run.updater.halve():
                raise too_large(before, error, everywhere=True) from None
        except RuntimeError as error:
            # Beside a micro-batch: in one process alone, or where half of one would not help.
            if not is_out_of_memory(error):
                raise
            raise too_large(before, error) from None
        display.say(
            f"memory does not suffice for {before} clips at a time: going on with "
            f"{run.plan.micro_batch}, {run.plan.batch} for an update as before"
        )
        batches = _Batches(run, number)


def too_large(clips: int, error: Exception, *, everywhere: bool = False) -> TrainError:
    """Return what to do where so many clips at a time do not fit, and fewer cannot be."""
    return TrainError(
        f"memory does not suffice for {clips} clips at a time "
        f"({one_line(error).partition('. ')[0]}): set a lower batch.per_process, or "
        "compute.checkpoint_segments to 3",
        everywhere=everywhere,
    )


def _save(run: Run, done: int) -> None:
    run.broken.share(run.processes)
    if run.processes.leads:
        save(run.snapshots, done, run.initial, run.updater, run.broken, run.name, run.best)
    run.processes.wait()


def _evaluate(run: Run, display: Display, record: Record | None, done: int) -> Scores:
    """Measure accuracy, say it, note it, and whether it is the best."""
    scores = _measured(run, display)
    when = f"after update {done}" if done else "before the first update"
    display.say(
        f"{when}: top-1 {scores.top(1):.2%}, top-5 {scores.top(5):.2%} of {len(scores.truth)} clips"
    )
    measured = figures(scores)
    if record:
        record.write(done - 1, **{f"val_{name}": value for name, value in measured.items()})
    run.best.note(done, measured[run.config.save.best or "top1"])
    return scores


def _measured(run: Run, display: Display) -> Scores:
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
    return scores


def _record(run: Run) -> Record | nullcontext[None]:
    if not run.processes.leads:
        return nullcontext()
    write_config(run.config)
    tensorboard = run.config.log.tensorboard
    return Record(run.config.output, run.first, tensorboard, run.best.measured)


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
