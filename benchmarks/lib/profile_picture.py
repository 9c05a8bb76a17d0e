"""Timelines of requests and the encoder's operations as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

COLOURS = {
    "decode": "#4477aa",
    "queue": "#777777",
    "encode": "#ee6677",
    "text": "#228833",
    "score": "#ccbb44",
}
REQUEST, INK, DPI = "#e4e4e4", "#222222", 130
SHOWN_OPERATIONS = 9


class Piece(Protocol):
    """What a timeline is made of; the first piece is the whole request."""

    @property
    def name(self) -> str:
        """The stage."""

    @property
    def start_ms(self) -> float:
        """Since the request began."""

    @property
    def end_ms(self) -> float:
        """Since the request began."""


def draw(
    timelines: Mapping[str, Sequence[Piece]], operations: Mapping[str, float], path: Path
) -> None:
    """Write the picture: a lane for each request, below it a bar for each kind of operation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height = 0.42 * len(timelines)
    figure = Figure(figsize=(10, height + 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[height, 2.6])
    for lane, spans in enumerate(timelines.values()):
        _lane(top, lane, spans)
    top.set_yticks(range(len(timelines)), list(timelines))
    top.invert_yaxis()
    top.margins(x=0.08)
    top.set_xlabel("ms since the server began to read the request")
    top.set_title("One request over HTTP (median of its kind)")
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    handles.append(Patch(color=REQUEST, label="upload, form, answer"))
    top.legend(handles=handles, loc="lower right", ncols=2, fontsize=8)
    _bars(bottom, operations)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=DPI)


def _lane(axes: Any, lane: int, spans: Sequence[Piece]) -> None:
    """Draw the request as a band, the clip's stages in its upper half, the labels' in the lower."""
    whole, *stages = spans
    axes.barh(lane, whole.end_ms, height=0.76, color=REQUEST)
    for span in stages:
        y, height = (lane + 0.19, 0.38) if span.name == "text" else (lane - 0.19, 0.38)
        axes.barh(
            y, span.end_ms - span.start_ms, left=span.start_ms, height=height,
            color=COLOURS.get(span.name, INK),
        )  # fmt: skip
    axes.annotate(
        f" {whole.end_ms:.0f} ms", (whole.end_ms, lane), va="center", fontsize=8, color=INK
    )


def _bars(axes: Any, operations: Mapping[str, float]) -> None:
    names = list(operations)
    shown = {name: operations[name] for name in names[:SHOWN_OPERATIONS]}
    if names[SHOWN_OPERATIONS:]:
        shown["all others"] = sum(operations[name] for name in names[SHOWN_OPERATIONS:])
    bars = axes.barh(list(shown), list(shown.values()), color=COLOURS["encode"])
    axes.bar_label(bars, fmt=" %.1f", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("ms of one clip")
    axes.set_title("Inside the fp32 video encoder (ONNX Runtime's profiler)")
