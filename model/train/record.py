"""What a run writes down: `metrics.jsonl`, one line an update, and TensorBoard events."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from model.train.progress import Pace
from model.train.update import Outcome

METRICS, EVENTS = "metrics.jsonl", "tensorboard"


class Record:
    """Open for the length of a run. What an earlier run wrote from update `start` on is dropped,
    and accuracy of which the snapshot does not know (it was `measured` after so many updates): the
    file reads as if the run had never been interrupted.
    """

    def __init__(
        self, folder: Path, start: int, tensorboard: bool, measured: int | None = None
    ) -> None:
        self.file = folder / METRICS
        kept = [
            line
            for line in (read_metrics(self.file) if start else ())
            if line["update"] < ((measured or 0) if "val_top1" in line else start)
        ]
        draft = self.file.with_suffix(".draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(draft, self.file)
        self._stream = self.file.open("a", encoding="utf-8")
        self._hook = threading.excepthook
        threading.excepthook = self._on_thread_error
        self._events = _event_writer(folder / EVENTS, start) if tensorboard else None

    def _on_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """Pass over what the disk refuses to TensorBoard's thread: it comes up again in `write`, so
        no traceback is needed.
        """
        if not isinstance(failed.exc_value, OSError):
            self._hook(failed)

    def update(self, number: int, outcome: Outcome, pace: Pace, epoch: float) -> None:
        """Write the figures of an update (from 0)."""
        self.write(
            number,
            loss=outcome.loss,
            lr=outcome.lr,
            grad_norm=outcome.grad_norm,
            epoch=epoch,
            clips_per_s=pace.clips_per_s,
            data_wait=pace.data_wait,
        )

    def write(self, update: int, **values: float) -> None:
        """Write figures that belong to an update."""
        self._stream.write(json.dumps({"update": update, **values}) + "\n")
        self._stream.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, update)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stream.close()
            if self._events is not None:
                self._events.close()
        finally:
            threading.excepthook = self._hook


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`; a last one that was cut off is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _event_writer(folder: Path, start: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start)
