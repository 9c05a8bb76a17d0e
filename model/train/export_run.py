"""The end of a run: the checkpoint that goes on to `python -m export`, and the report."""

from __future__ import annotations

from pathlib import Path

from model.checkpoints.native import save_checkpoint
from model.evaluate.scores import Scores
from model.train.progress import Display
from model.train.record import METRICS, read_metrics
from model.train.report import write_report
from model.train.run import Run
from model.train.standstill import standstill

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
    still = standstill(lines, run.config)
    warnings = [still] if still else []
    write_report(report, lines, run.training.clips.labels.names, scores, warnings)
    display.say(f"checkpoint: {checkpoint} (next: python -m export {checkpoint} --output BUNDLE)")
    display.say(f"report: {report}")
    for warning in warnings:
        display.say(f"warning: {warning}")
    if run.broken.reasons:
        count = len(run.broken.reasons)
        display.say(f"{count} training clips could not be decoded: {report / BROKEN}")
    if scores is not None and scores.broken:
        display.say(f"{len(scores.broken)} clips of data.val could not be decoded, not counted")
    return checkpoint
