"""The end of a run: the checkpoint that goes on to `python -m export`, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.checkpoints.native import save_checkpoint
from model.evaluate.scores import Scores
from model.train.progress import Display
from model.train.record import METRICS, read_metrics
from model.train.remarks import remarks
from model.train.report import write_report
from model.train.run import Run

CHECKPOINT, REPORT, BROKEN = "checkpoint", "report", "broken.csv"


def export_run(run: Run, scores: Scores | None, display: Display) -> Path:
    """Write both into the run's folder and say where they are; the folder of the checkpoint."""
    initial, checkpoint = run.initial, run.config.output / CHECKPOINT
    save_checkpoint(
        initial.net,
        checkpoint,
        tokenizer=initial.tokenizer if initial.own_tokenizer else None,
        name=run.name,
        source=initial.source,
        templates=run.templates,
        overwrite=True,
    )
    report = run.config.output / REPORT
    report.mkdir(exist_ok=True)
    run.broken.write(report / BROKEN)
    lines = read_metrics(run.config.output / METRICS)
    labels, best = run.training.clips.labels.names, _best(run)
    warnings = remarks(lines, run.config, labels, scores, best)
    measured = run.validation.clips if run.validation else None
    write_report(
        report, lines, labels, scores, warnings, best, measured, initial.net.inputs, run.name,
        run.summary(),
    )  # fmt: skip
    if best is not None:
        display.say(
            f"best: epoch {best['epoch']:g} (update {best['update']}), {best['figure']} "
            f"{best['value']:.4f}; it is what is kept"
        )
    display.say(f"checkpoint: {checkpoint} (next: python -m export {checkpoint} --output BUNDLE)")
    display.say(f"report: {report / 'report.html'}")
    for warning in warnings:
        display.say(f"warning: {warning}")
    if run.broken.reasons:
        count = len(run.broken.reasons)
        display.say(f"{count} training clips could not be decoded: {report / BROKEN}")
    if scores is not None and scores.broken:
        display.say(f"{len(scores.broken)} clips of data.val could not be decoded, not counted")
    return checkpoint


def _best(run: Run) -> dict[str, Any] | None:
    """Describe the evaluation whose network is kept; None where it is simply the last."""
    best = run.best
    if best.figure is None or best.update is None:
        return None
    epoch = best.update / run.plan.updates_per_epoch
    return {"figure": best.figure, "value": best.value, "update": best.update, "epoch": epoch}
