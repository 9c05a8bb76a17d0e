"""A comparison as a picture: accuracy with its interval over the time of a clip, or agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.evaluate.comparison.report import names_of
from model.evaluate.comparison.run import Comparison

SIZE, DPI = (8, 4.5), 130
LONGEST = 40  # characters of a name


def draw(comparison: Comparison, file: Path) -> None:
    """Write the picture in the form that the file's ending names (.png, .svg, .pdf).

    Raises:
        ValueError: matplotlib knows no such form.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    if comparison.entries[0].judgement is not None:
        _accuracy(axes, comparison)
    else:
        _agreement(axes, comparison)
    figure.savefig(file, dpi=DPI)


def _accuracy(axes: Any, comparison: Comparison) -> None:
    for name, entry in zip(names_of(comparison.entries), comparison.entries, strict=True):
        assert entry.judgement is not None
        top1 = entry.judgement.top1
        share, low, high = (100 * value for value in (top1.share, top1.low, top1.high))
        axes.errorbar(
            entry.answers.clip_ms,
            share,
            yerr=[[share - low], [high - share]],
            fmt="o",
            capsize=4,
            label=f"{_short(name)}: {share:.1f} %",
        )
    axes.set(
        xscale="log",
        ylim=(0, 101),
        xlabel="ms a clip, here",
        ylabel="top-1 % and its interval of 95 %",
        title=f"{len(comparison.indices)} clips, {len(comparison.clips.labels)} labels",
    )
    axes.grid(alpha=0.3)
    axes.legend()


def _agreement(axes: Any, comparison: Comparison) -> None:
    names = [_short(name) for name in names_of(comparison.entries)]
    shares = 100 * comparison.agreement
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in ((r, c) for r in range(len(names)) for c in range(len(names))):
        share = shares[row, column]
        colour = "white" if share > 50 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour)
    axes.set(title=f"% of {len(comparison.indices)} clips that two networks name alike")


def _short(name: str) -> str:
    cut = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    return cut.replace("$", r"\$")  # a $ in a name is a $
