"""A comparison for a person and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.evaluate.comparison.run import Comparison, Entry, Judgement, Share

MIB = 2**20
NAMED_BROKEN = 3


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table, what each network confuses or how far they agree, and what was left out."""
    names = names_of(comparison.entries)
    table = Table(box=None, pad_edge=False)
    table.add_column("network")
    judged = comparison.entries[0].judgement is not None
    for column in ("top-1 % (95 %)", "top-5 %", "macro %", "against the best") * judged:
        table.add_column(column, justify="right")
    for column in ("ms a clip", "memory MiB", "weights MiB"):
        table.add_column(column, justify="right")
    table.add_column("licence")
    table.add_column("runs in")
    for name, entry in zip(names, comparison.entries, strict=True):
        table.add_row(escape(name), *_row(entry))
    console.print(table)
    _print_confused(console, comparison, names)
    if len(comparison.entries) > 1:
        console.print(_agreement(comparison, names))
    console.print(
        f"{len(comparison.indices)} clips, {len(comparison.clips.labels)} labels; "
        "intervals are Wilson's, differences McNemar's exact test; ms: median of one clip at a "
        "time, decoding left out; memory: the most that the network's own process held"
    )
    if comparison.broken:
        first = "; ".join(f"{b.name} ({b.reason})" for b in comparison.broken[:NAMED_BROKEN])
        left_out = f"{len(comparison.broken)} of {len(comparison.clips)}"
        console.print(f"left out {left_out}: {first}", markup=False)


def names_of(entries: Sequence[Entry]) -> list[str]:
    """Return what each network is called: by its source where two have one name."""
    names = [entry.facts.name for entry in entries]
    return [
        entry.source if names.count(name) > 1 else name
        for name, entry in zip(names, entries, strict=True)
    ]


def _row(entry: Entry) -> list[str]:
    facts, answers = entry.facts, entry.answers
    return [
        *(_judgement(entry.judgement) if entry.judgement else ()),
        f"{answers.clip_ms:.3g}" if answers.clip_ms < 100 else f"{answers.clip_ms:.0f}",
        f"{answers.memory_bytes / MIB:.0f}",
        f"{facts.bytes / MIB:.1f}",
        escape(facts.licence or "not known"),
        escape(facts.runs_in),
    ]


def _judgement(judgement: Judgement) -> list[str]:
    top1, top5 = judgement.top1, judgement.top5
    return [
        f"{100 * top1.share:.1f} ({100 * top1.low:.1f} to {100 * top1.high:.1f})",
        f"{100 * top5.share:.1f}" if top5 else "–",
        f"{100 * judgement.macro:.1f}",
        difference_text(judgement),
    ]


def difference_text(judgement: Judgement) -> str:
    """Say whether a network is worse than the best, or may only seem so."""
    p = judgement.against_best
    if p is None:
        return "best"
    said = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{said}, {'may be chance' if judgement.as_good_as_the_best else 'worse'}"


def _print_confused(console: Console, comparison: Comparison, names: Sequence[str]) -> None:
    for name, entry in zip(names, comparison.entries, strict=True):
        if entry.judgement and entry.judgement.confused:
            pairs = ", ".join(f"{a} → {b} ({n})" for a, b, n in entry.judgement.confused)
            console.print(f"{name} takes: {pairs}", markup=False)


def _agreement(comparison: Comparison, names: Sequence[str]) -> Table:
    """Return a table of how often two networks say the same of a clip."""
    table = Table(box=None, pad_edge=False)
    table.add_column("agree on, %")
    for number in range(1, len(names) + 1):
        table.add_column(str(number), justify="right")
    for number, (name, row) in enumerate(zip(names, comparison.agreement, strict=True), 1):
        table.add_row(f"{number} {escape(name)}", *(f"{100 * share:.1f}" for share in row))
    return table


def as_json(comparison: Comparison, arguments: Sequence[str]) -> dict[str, Any]:
    """Give everything that was measured, and with which command."""
    labels, samples = comparison.clips.labels.names, comparison.clips.samples
    judged = comparison.entries[0].judgement is not None
    predicted = [entry.predicted for entry in comparison.entries]
    return {
        "command": f"python -m model.evaluate compare {shlex.join(arguments)}",
        "labels": list(labels),
        "networks": [_entry_json(entry) for entry in comparison.entries],
        "agreement": comparison.agreement.round(6).tolist(),
        "clips": [
            {
                "path": samples[index].name,
                **({"label": labels[samples[index].label]} if judged else {}),
                "predicted": [labels[classes[row]] for classes in predicted],
            }
            for row, index in enumerate(comparison.indices)
        ],
        "broken": [{"path": b.name, "reason": b.reason} for b in comparison.broken],
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    facts, answers, judgement = entry.facts, entry.answers, entry.judgement
    described = {
        "source": entry.source,
        "name": facts.name,
        "variant": facts.variant,
        "runs_in": facts.runs_in,
        "templates": list(facts.templates),
        "licence": facts.licence,
        "weights_bytes": facts.bytes,
        "clip_ms": round(answers.clip_ms, 3),
        "memory_bytes": answers.memory_bytes,
    }
    if judgement is None:
        return described
    return described | {
        "top1": _share_json(judgement.top1),
        "top5": _share_json(judgement.top5),
        "macro": judgement.macro,
        "p_against_best": judgement.against_best,
        "may_be_as_good_as_best": judgement.as_good_as_the_best,
        "confused": [
            {"label": label, "taken_for": other, "clips": n}
            for label, other, n in judgement.confused
        ],
    }


def _share_json(share: Share | None) -> dict[str, Any] | None:
    return None if share is None else asdict(share)
