"""The findings of a check, for a person."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.data.check.check import Findings

SHOWN = 8


def print_findings(findings: Findings, frames: int) -> None:
    """A table: what was looked at, how many, which."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "count", "which"):
        table.add_column(column, justify="right" if column == "count" else "left")
    alike = [" = ".join(group) for group in findings.alike]
    rows: list[tuple[str, int, Sequence[str]]] = [
        ("clips", findings.clips, ()),
        ("labels", findings.labels, (findings.balance(),)),
        ("missing clips", len(findings.missing), findings.missing),
        ("broken clips", len(findings.broken), _pairs(findings.broken)),
        (f"shorter than {frames} frames", len(findings.too_short), _pairs(findings.too_short)),
        ("listed twice", len(findings.repeated), findings.repeated),
        ("… with other labels", len(findings.contradicting), findings.contradicting),
        ("also in val", len(findings.also_in_val), findings.also_in_val),
        ("labels without clips", len(findings.empty_labels), findings.empty_labels),
        (
            "labels with the same tokens",
            len(findings.alike),
            alike,
        ),
        ("labels too long to read", len(findings.too_long), findings.too_long),
    ]
    for what, count, which in rows:
        rest = len(which) - SHOWN
        text = "; ".join(which[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
        table.add_row(Text(what), str(count), Text(text))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print("wrong: correct the above first" if findings.serious else "nothing is wrong")


def _pairs(found: dict[str, str] | dict[str, int]) -> list[str]:
    return [f"{name} ({value})" for name, value in found.items()]
