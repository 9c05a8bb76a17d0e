"""What a run looked like, as pictures and figures: curves, confusion, most confused pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluate.scores import Scores
from model.train.record import METRICS, read_metrics

MAX_NAMED = 40  # labels of a confusion matrix that can still be read
CURVES = {"loss": "loss", "lr": "base learning rate", "val": "accuracy on data.val"}


def write_report(
    folder: Path, run_folder: Path, labels: Sequence[str], scores: Scores | None
) -> None:
    """`curves.png`, and where accuracy was measured `confusion.png`, `confused.png` and
    `report.json`.
    """
    plt = _pyplot()
    lines = read_metrics(run_folder / METRICS)
    _save(_curves(plt, lines), folder / "curves.png")
    content: dict[str, Any] = {"updates": 1 + max((line["update"] for line in lines), default=-1)}
    if scores is not None and len(scores.truth):
        _save(_confusion(plt, scores, labels), folder / "confusion.png")
        _save(_confused(plt, scores, labels), folder / "confused.png")
        content |= summary(scores, labels)
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def summary(scores: Scores, labels: Sequence[str]) -> dict[str, Any]:
    """The figures of an evaluation."""
    matrix = scores.confusion()
    counts = matrix.sum(axis=1)
    return {
        "clips": len(scores.truth),
        "broken": [{"path": b.name, "reason": b.reason} for b in scores.broken],
        "top1": scores.top(1),
        "top5": scores.top(5),
        "per_class": {
            label: {"clips": int(n), "top1": float(matrix[i, i] / n)}
            for i, (label, n) in enumerate(zip(labels, counts, strict=True))
            if n
        },
        "most_confused": [
            {"label": labels[i], "taken_for": labels[j], "clips": n}
            for i, j, n in scores.most_confused()
        ],
    }


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=120, bbox_inches="tight")
    figure.clear()
    _pyplot().close(figure)


def _curves(plt: Any, lines: Sequence[dict[str, Any]]) -> Any:
    figure, panels = plt.subplots(1, 3, figsize=(15, 4))
    for panel, (start, title) in zip(panels, CURVES.items(), strict=True):
        names = sorted({key for line in lines for key in line if key.startswith(start)})
        for name in names:
            points = [(line["update"] + 1, line[name]) for line in lines if name in line]
            panel.plot(*zip(*points, strict=True), label=name, marker="." if start == "val" else "")
        panel.set_xlabel("update")
        panel.set_title(title)
        if start == "val" and names:
            panel.set_ylim(0, 1)
            panel.legend()
    return figure


def _confusion(plt: Any, scores: Scores, labels: Sequence[str]) -> Any:
    matrix = scores.confusion().astype(float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(max(4.0, 0.3 * len(labels)), 14.0)
    figure, panel = plt.subplots(figsize=(side, side))
    picture = panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=panel, fraction=0.046, label="share of the label's clips")
    panel.set(xlabel="taken for", ylabel="label", title=f"top-1 {scores.top(1):.1%}")
    if len(labels) <= MAX_NAMED:
        places = range(len(labels))
        panel.set_xticks(places, labels, rotation=90)
        panel.set_yticks(places, labels)
    return figure


def _confused(plt: Any, scores: Scores, labels: Sequence[str]) -> Any:
    pairs = scores.most_confused()[::-1]
    figure, panel = plt.subplots(figsize=(8, 0.4 * max(len(pairs), 2) + 1))
    panel.barh([f"{labels[i]} → {labels[j]}" for i, j, _ in pairs], [n for *_, n in pairs])
    panel.set(xlabel="clips", title="label → what it was most often taken for")
    return figure
