"""What a run looked like: curves, classes, confusions, calibration, the clips that went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.data.lists.cliplist import ClipList
from model.evaluate.scores import Scores
from model.inputs import InputSpec
from model.train.best import figures
from model.train.page import DPI, write_page
from model.train.per_class import ClassFigures, calibration, class_figures
from model.train.standstill import accuracies
from model.train.worst_clips import contact_sheet, worst_clips

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
    best: Mapping[str, Any] | None = None,
    clips: ClipList | None = None,
    spec: InputSpec | None = None,
    name: str = "training",
    facts: str = "",
) -> None:
    """Write `report.html`, which needs no other file, `report.json`, and each picture by itself.

    `lines` are those of `metrics.jsonl`, `scores` those of the network that is kept, `best` says
    from which epoch that is, where it is not the last. `clips` are those of the scores: with them,
    and the `spec` that they are read by, those that went most wrong are shown. `facts` describe the
    run in a line.
    """
    plt = _pyplot()
    pictures = [("Curves", folder / "curves.png")]
    kept = None if best is None else int(best["update"])
    _save(_curves(plt, lines, kept), folder / "curves.png")
    classes: list[ClassFigures] = []
    content: dict[str, Any] = {
        "run": facts,
        "updates": 1 + max((line["update"] for line in lines), default=-1),
        "warnings": list(warnings),
        "best": best,
        "accuracy": accuracies(lines),
    }
    if scores is not None and len(scores.truth):
        drawn = {
            "Confusions": ("confusion", _confusion(plt, scores, labels)),
            "Most confused": ("confused", _confused(plt, scores, labels)),
            "Calibration": ("calibration", _calibration(plt, scores)),
        }
        if clips is not None and spec is not None:
            wrong = worst_clips(scores, clips, labels)
            content["worst"] = [asdict(clip) for clip in wrong]
            drawn["Clips that went most wrong"] = ("worst", contact_sheet(plt, wrong, clips, spec))
        for title, (file, figure) in drawn.items():
            if figure is not None:
                _save(figure, folder / f"{file}.png")
                pictures.append((title, folder / f"{file}.png"))
        classes = class_figures(scores, labels)
        content |= summary(scores, labels)
    write_page(folder / "report.html", name, content, classes, pictures)
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def summary(scores: Scores, labels: Sequence[str]) -> dict[str, Any]:
    """Summarise an evaluation."""
    return {
        "clips": len(scores.truth),
        "broken": [{"path": b.name, "reason": b.reason} for b in scores.broken],
        **figures(scores),
        "per_class": {
            c.label: {"clips": c.clips, "top1": c.recall, "precision": c.precision}
            for c in class_figures(scores, labels)
            if c.clips
        },
        "calibration": asdict(calibration(scores)),
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
    figure.savefig(file, dpi=DPI, bbox_inches="tight")
    figure.clear()
    _pyplot().close(figure)


def _curves(plt: Any, lines: Sequence[dict[str, Any]], kept: int | None) -> Any:
    """Draw loss, rate and accuracy over the updates; `kept` is the one whose network is kept."""
    figure, (loss, rate, accuracy) = plt.subplots(1, 3, figsize=(15, 4))
    updates, losses = _points(lines, "loss")
    span = max(len(losses) // SMOOTHED_PARTS, 1)
    thin = {"alpha": 0.35, "linewidth": 0.8} if span > 1 else {}
    loss.plot(updates, losses, color="tab:blue", label="each update", **thin)
    if span > 1:
        means = np.convolve(losses, np.ones(span) / span, mode="valid")
        loss.plot(updates[span - 1 :], means, color="tab:blue", label=f"mean of {span} updates")
        loss.legend()
    rate.plot(*_points(lines, "lr"))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for name, label in (("val_top1", "top-1"), ("val_top5", "top-5"), ("val_macro", "macro")):
        points, values = _points(lines, name)
        if len(points) and (name != "val_top5" or values.min() < 1):
            shown = values[points == kept] if kept in points else values[-1:]
            accuracy.plot(points, 100 * values, marker=".", label=f"{label}: {shown[0]:.1%}")
    if kept is not None and accuracy.lines:
        accuracy.axvline(kept, color="grey", linestyle=":", label="kept")
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
        panel.xaxis.get_major_locator().set_params(integer=True)
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


def _calibration(plt: Any, scores: Scores) -> Any:
    curve = calibration(scores)
    figure, panel = plt.subplots(figsize=(4.5, 4.5))
    panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="as sure as right")
    panel.plot(curve.scores, curve.right, marker="o", color="tab:blue")
    for score, right, clips in zip(curve.scores, curve.right, curve.clips, strict=True):
        panel.annotate(str(clips), (score, right), textcoords="offset points", xytext=(5, -10))
    title = f"calibration error {curve.error:.1%}; numbers are clips"
    panel.set(xlabel="score of the best label", ylabel="share that is right", title=title)
    panel.set(xlim=(0, 1.04), ylim=(-0.06, 1.04))
    panel.legend()
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
