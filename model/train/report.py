"""What a run looked like, as pictures and figures: curves, confusion, most confused pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluate.scores import Scores
from model.train.standstill import accuracies

MAX_NAMED = 110  # labels of a confusion matrix that can still be read
MAX_COUNTED = 40  # … that leave room for numbers in its cells
LONGEST = 45  # characters of a label in a picture
SMOOTHED_PARTS = 50  # the mean of the loss is taken over so small a part of the run


def write_report(
    folder: Path,
    lines: Sequence[dict[str, Any]],
    labels: Sequence[str],
    scores: Scores | None,
    warnings: Sequence[str] = (),
) -> None:
    """Write `curves.png` and `report.json`; where accuracy was measured, pictures of confusions.

    `lines` are those of `metrics.jsonl`, `scores` those of the last evaluation.
    """
    plt = _pyplot()
    _save(_curves(plt, lines), folder / "curves.png")
    content: dict[str, Any] = {
        "updates": 1 + max((line["update"] for line in lines), default=-1),
        "warnings": list(warnings),
        "accuracy": accuracies(lines),
    }
    if scores is not None and len(scores.truth):
        _save(_confusion(plt, scores, labels), folder / "confusion.png")
        _save(_confused(plt, scores, labels), folder / "confused.png")
        content |= summary(scores, labels)
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def summary(scores: Scores, labels: Sequence[str]) -> dict[str, Any]:
    """Summarise an evaluation."""
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
    mpl.rcParams["text.parse_math"] = False  # a $ in a label is a $
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=120, bbox_inches="tight")
    figure.clear()
    _pyplot().close(figure)


def _curves(plt: Any, lines: Sequence[dict[str, Any]]) -> Any:
    figure, (loss, rate, accuracy) = plt.subplots(1, 3, figsize=(15, 4))
    updates, losses = _points(lines, "loss")
    loss.plot(updates, losses, color="tab:blue", alpha=0.35, linewidth=0.8, label="each update")
    span = max(len(losses) // SMOOTHED_PARTS, 1)
    if span > 1:
        means = np.convolve(losses, np.ones(span) / span, mode="valid")
        loss.plot(updates[span - 1 :], means, color="tab:blue", label=f"mean of {span} updates")
        loss.legend()
    rate.plot(*_points(lines, "lr"))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for name, label in (("val_top1", "top-1"), ("val_top5", "top-5")):
        points, values = _points(lines, name)
        if len(points):
            accuracy.plot(points, 100 * values, marker=".", label=f"{label}: {values[-1]:.1%}")
    accuracy.set(ylim=(0, 101), ylabel="%")
    if accuracy.lines:
        accuracy.legend()
    for panel, title in (
        (loss, "loss"),
        (rate, "base learning rate"),
        (accuracy, "accuracy on data.val"),
    ):
        panel.set(title=title, xlabel="update")
        panel.grid(alpha=0.3)
    return figure


def _points(lines: Sequence[dict[str, Any]], name: str) -> tuple[Any, Any]:
    """Return updates, counted from 1, and the figure of that name."""
    points = [(line["update"] + 1, line[name]) for line in lines if name in line]
    return tuple(np.array(points, dtype=float).reshape(-1, 2).T)  # type: ignore[return-value]


def _confusion(plt: Any, scores: Scores, labels: Sequence[str]) -> Any:
    matrix = scores.confusion()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(labels) <= MAX_NAMED
    inch = 0.35 if len(labels) <= MAX_COUNTED else 0.16
    side = min(max(4.0, inch * len(labels)), 18.0 if named else 12.0)
    figure, panel = plt.subplots(figsize=(side, side))
    picture = panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=panel, fraction=0.046, label="share of the label's clips")
    title = f"top-1 {scores.top(1):.1%} of {len(scores.truth)} clips"
    panel.set(xlabel="taken for", ylabel="label", title=title)
    if named:
        ticks = range(len(labels))
        size = 9 if len(labels) <= MAX_COUNTED else 7
        panel.set_xticks(ticks, map(_short, labels), rotation=90, fontsize=size)
        panel.set_yticks(ticks, map(_short, labels), fontsize=size)
    if len(labels) <= MAX_COUNTED:
        for row, column in np.argwhere(matrix):
            colour = "white" if share[row, column] > 0.5 else "black"
            text = str(matrix[row, column])
            panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return figure


def _confused(plt: Any, scores: Scores, labels: Sequence[str]) -> Any:
    pairs = scores.most_confused()[::-1]
    counts = scores.confusion().sum(axis=1)
    figure, panel = plt.subplots(figsize=(8, 0.4 * max(len(pairs), 2) + 1))
    # Bars at numbers: two pairs whose names are cut off alike stay two.
    bars = panel.barh(range(len(pairs)), [n for *_, n in pairs])
    panel.bar_label(bars, [f"{n} of {counts[i]}" for i, _, n in pairs], padding=3)
    names = [f"{_short(labels[i])} → {_short(labels[j])}" for i, j, _ in pairs]
    panel.set_yticks(range(len(pairs)), names)
    panel.set(xlabel="clips", title="label → what it was most often taken for")
    panel.margins(x=0.15)
    panel.xaxis.get_major_locator().set_params(integer=True)
    if not pairs:
        panel.text(0.5, 0.5, "no clip was taken for another label", ha="center", va="center",
                   transform=panel.transAxes)  # fmt: skip
        panel.set(xticks=[], xlabel="")
    return figure


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
