"""Plots of the CPU page, each from one JSON report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

OURS, PEERS, INK = "#ee6677", "#4477aa", "#222222"
PRECISION_DASHES = {"fp32": "-", "bf16": "--", "int8": ":"}
SERVER_COLOURS = {"xclip-serve": OURS, "fastapi": PEERS, "litserve": "#228833"}
SIZE, DPI = (8, 4), 130
BAR_INCHES = 0.3
OUR_RUNTIMES = ("onnxruntime", "openvino", "our torch")

Report = Mapping[str, Any]


def plot_all(reports: Mapping[str, Report], folder: Path) -> dict[str, Path]:
    """Draw what there are reports for; the pictures by report."""
    drawn = {}
    for name, draw in PLOTS.items():
        if name in reports:
            figure = Figure(figsize=SIZE, layout="constrained")
            draw(reports[name], figure)
            drawn[name] = folder / f"{name}.png"
            FigureCanvasAgg(figure).print_figure(str(drawn[name]), dpi=DPI)
    return drawn


def _bars(figure: Any, rows: list[tuple[str, float, bool]], unit: str, title: str) -> None:
    """Lying bars, ours and theirs in two colours."""
    axes = _axes(figure, title)
    colours = [OURS if ours else PEERS for _, _, ours in rows]
    bars = axes.barh([name for name, _, _ in rows], [value for _, value, _ in rows], color=colours)
    axes.bar_label(bars, fmt=" %.4g", fontsize=8)
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel(unit)


def _encoder(report: Report, figure: Any) -> None:
    rows = [
        (row["what"], row["median_ms"], any(ours in row["what"] for ours in OUR_RUNTIMES))
        for row in report["rows"]
    ]
    figure.set_figheight(max(SIZE[1], len(rows) * BAR_INCHES))
    _bars(figure, rows, "ms, median", "Video encoder, one clip of 8 frames (ours red)")


def _latency(report: Report, figure: Any) -> None:
    rows = [
        (row["what"], row["median_ms"], not row["what"].startswith("transformers"))
        for row in report["rows"]
    ]
    _bars(figure, rows, "ms, median", "One request (ours over HTTP, red)")


def _start(report: Report, figure: Any) -> None:
    rows = [
        (row["what"], row["median_ms"] / 1e3, row["what"].startswith("our"))
        for row in report["rows"]
    ]
    _bars(figure, rows, "s, median", "From nothing to ready (ours red)")


def _serving(report: Report, figure: Any) -> None:
    axes = _axes(figure, "Under load, every request another file")
    lines = defaultdict(list)
    for row in report["rows"]:
        if row["labels"] == "known":
            lines[row["server"], row["precision"]].append((row["clients"], row["clips/s"]))
    for (server, precision), points in lines.items():
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", color=SERVER_COLOURS[server],
            linestyle=PRECISION_DASHES[precision], label=f"{server} {precision}",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    levels = sorted({row["clients"] for row in report["rows"]})
    axes.set_xticks(levels, [str(level) for level in levels])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("clients that ask without a pause")
    axes.set_ylabel("clips/s")
    figure.legend(loc="outside right upper", fontsize=8)


def _labels(report: Report, figure: Any) -> None:
    axes = _axes(figure, "Labels about one clip that is held")
    rows = report["rows"]
    counts = [row["labels"] for row in rows]
    for key, name, colour in (
        ("new_ms", "never seen", PEERS),
        ("again_ms", "seen before", OURS),
        ("score_ms", "score head alone", "#ccbb44"),
    ):
        axes.plot(counts, [row[key] for row in rows], marker="o", label=name, color=colour)
    scale = rows[-1]["score_ms"] / rows[-1]["gmacs"]
    work = [row["gmacs"] * scale for row in rows]
    axes.plot(counts, work, color=INK, linestyle=":", label="arithmetic of the score head")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("labels")
    axes.set_ylabel("ms")
    axes.legend(fontsize=8)


def _axes(figure: Any, title: str) -> Any:
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return axes


PLOTS: dict[str, Callable[[Report, Any], None]] = {
    "encoder": _encoder,
    "latency": _latency,
    "serving": _serving,
    "labels": _labels,
    "start": _start,
}
