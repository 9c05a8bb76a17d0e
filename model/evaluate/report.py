"""An evaluation for a person and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from model.evaluate.command import Measured

HARDEST = 5  # classes that are named


def print_result(measured: Measured) -> None:
    """Print the lists, then the protocol's figures beside the paper's."""
    console = Console(soft_wrap=True, highlight=False)
    parts = Table(box=None, pad_edge=False)
    for column in ("list", "labels", "clips", "broken", "right", "top-1 %", "top-5 %"):
        parts.add_column(column, justify="left" if column == "list" else "right")
    for p in measured.result.parts:
        counts = (str(p.labels), str(p.clips), str(p.broken), str(p.right))
        parts.add_row(p.name, *counts, f"{p.top1:.2f}", f"{p.top5:.2f}")
    console.print(parts)
    _print_hardest(console, measured)
    figures = Table(box=None, pad_edge=False)
    for column in (measured.result.protocol, "ours %", "paper %"):
        figures.add_column(column, justify="right" if column.endswith("%") else "left")
    for name, value in measured.result.figures.items():
        paper = measured.paper.get(name)
        figures.add_row(name, f"{value:.2f}", "–" if paper is None else f"{paper:g}")
    console.print(figures)
    views = measured.views
    console.print(
        f"{', '.join(measured.names)} ({measured.network}), {views.views} × {views.crops} views, "
        f"frame rule {measured.frame_rule}"
    )
    if measured.templates:
        console.print(f"labels are read as: {', '.join(measured.templates)}", markup=False)
    if not measured.paper:
        console.print(
            "no figure of the paper for this (see --dataset, --shots; the network counts too)"
        )


def _print_hardest(console: Console, measured: Measured) -> None:
    """Print the classes with most mistakes; all of them are in --json."""
    classes = [c for part in measured.result.parts for c in part.per_class if c.right < c.clips]
    hardest = sorted(classes, key=lambda c: (c.top1, -c.clips))[:HARDEST]
    if hardest:
        named = ", ".join(f"{c.label} {c.right} of {c.clips}" for c in hardest)
        console.print(f"hardest: {named}", markup=False)


def as_json(measured: Measured, arguments: Sequence[str]) -> dict[str, Any]:
    """Give everything that was measured, and with which command."""
    return {
        "command": f"python -m model.evaluate {shlex.join(arguments)}",
        "networks": list(measured.names),
        "templates": list(measured.templates),
        "network": measured.network,
        "views": measured.views.views,
        "crops": measured.views.crops,
        "frame_rule": measured.frame_rule,
        **measured.result.as_json(),
        "paper": measured.paper,
    }
