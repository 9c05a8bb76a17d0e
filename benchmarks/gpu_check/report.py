"""The report: `gpu.json` and, written from it, `gpu.md`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.goals import CARD, goals
from benchmarks.gpu_check.outcomes import FAILED, NAMES, NOT_RUN, RAN, Row, name_of
from benchmarks.lib.goals import Goal
from benchmarks.lib.markdown import cell, table
from benchmarks.lib.timing import machine, without_folders

TITLES = {
    "parity": "Answers against torch in fp32",
    "peaks": "The card's dense matrix peak",
    "speed": "Video encoder",
    "service": "The whole service under load",
    "training": "An update of training",
}
NOTES = {
    "parity": "Random networks, every parameter random; torch in fp32 on the processor is the "
    "measure. `top1 agreement`: the best of ten texts, forty times for each clip.",
    "peaks": "The largest of square products of random numbers; fp32 without TF32.",
    "speed": "From uint8 frames in the host's page-locked memory to video vectors in the host's "
    "memory, copies included. `of peak`: the network's arithmetic over this time, as a share of "
    "the peak in the same precision. `kernel ms`, `kernels of peak`: the GPU's own work alone. "
    "`memory mib`: of the device, what was added by opening and running. transformers has its "
    "weights in the precision, our torch computes by autocast. `cosine`: of its vectors with ours "
    "in fp32.",
    "service": "HTTP, clips of ten seconds, H.264, ten labels; every request brings another file, "
    "so each is decoded and encoded.",
    "training": "B/32 where it is among the variants, text tower frozen; the step alone, loading "
    "goes on beside it in workers.",
}
HIDDEN = ("outcome", "why", "variant", "clips")
# Where the third figure would hide what counts.
DIGITS = {"cosine": 6, "top1_agreement": 4}
Parts = Mapping[str, Sequence[Row]]


def make_report(parts: Parts, about: dict[str, Any], command: str, before: Any = None) -> Any:
    """Make the content of `gpu.json`. Parts that an earlier report has of the same card, driver and
    libraries stay in it, with their own command and date.
    """
    here = {"device": about, "machine": machine()}
    kept = {}
    if before and all(before.get(key) == value for key, value in here.items()):
        kept = before["parts"]
    made = {"command": without_folders(command), "date": time.strftime("%Y-%m-%d")}
    fresh = {name: {**made, "rows": _shared(rows)} for name, rows in parts.items() if rows}
    together = {**kept, **fresh}
    ordered = {name: together[name] for name in TITLES if name in together}
    return {**here, "goals": _goals_as_rows(_rows(ordered)), "parts": ordered}


def read_report(folder: Path | None) -> Any:
    """Read an earlier report; None where there is none."""
    file = folder / "gpu.json" if folder else None
    return json.loads(file.read_text()) if file and file.exists() else None


def write_report(report: Any, folder: Path | None) -> None:
    """Write both files, where there is a folder for them."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "gpu.md").write_text(page(report))


def page(report: Any) -> str:
    """Format the whole report as Markdown."""
    parts = ["# On a GPU", _introduction(report), "## Goals", _goal_table(report["goals"])]
    for name, part in report["parts"].items():
        parts += [f"## {TITLES[name]}", f"`{part['command']}`, {part['date']}", NOTES[name]]
        parts += _section(part["rows"])
    return "\n\n".join(parts) + "\n"


def _introduction(report: Any) -> str:
    device, host = report["device"], report["machine"]
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in device.items())
    versions = ", ".join(f"{library} {number}" for library, number in host["libraries"].items())
    return (
        f"`make gpu-check` measures this again. Measured on: {facts}; {host['processor']}, "
        f"{host['processors_used']} processors, Python {host['python']}, {versions}."
    )


def _goal_table(rows: list[Row]) -> str:
    return f"Set for an {CARD}; on another card they only compare.\n\n{table(rows)}"


def _goals_as_rows(parts: Parts) -> list[Row]:
    words = {True: "holds", False: "does not hold", None: "not run"}
    return [
        {
            "goal": goal.about,
            "bound": f"{'≥' if goal.at_least else '≤'} {cell(goal.bound)} {goal.unit}".strip(),
            "measured": _measured(goal),
            "outcome": words[goal.holds],
        }
        for goal in goals(parts)
    ]


def _measured(goal: Goal) -> str:
    return "–" if goal.measured is None else f"{cell(goal.measured)} {goal.unit}".strip()


def _section(rows: Sequence[Row]) -> Iterator[str]:
    """Format a table for each network, then what failed, then what was not run, by reason."""
    for variant in dict.fromkeys(row.get("variant") for row in rows):
        mine = [r for r in rows if r.get("variant") == variant]
        figures = [_figures(r) for r in mine if _has_figures(r)]
        if variant and figures:
            yield f"{variant}:"
        if figures:
            yield table(figures)
    clips = dict.fromkeys(row["clips"] for row in rows if row.get("clips"))
    if clips:
        yield "Clips: " + "; ".join(clips) + ". Each also mirrored, backwards, and both."
    failed = [f"- **{name_of(r)}: {r['why']}**" for r in rows if r["outcome"] == FAILED]
    if failed:
        yield "Failed:\n\n" + "\n".join(failed)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["outcome"] == NOT_RUN:
            reasons.setdefault(row["why"], []).append(name_of(row))
    if reasons:
        lines = [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
        yield "Not run:\n\n" + "\n".join(lines)


def _has_figures(row: Row) -> bool:
    return bool(set(row) - {*NAMES, *HIDDEN})


def _figures(row: Row) -> Row:
    """Return what a table shows of a row."""
    shown = {k: v for k, v in row.items() if k not in HIDDEN}
    return {k: f"{v:.{DIGITS[k]}f}" if k in DIGITS else v for k, v in shown.items()}


def _rows(parts: Mapping[str, Any]) -> dict[str, list[Row]]:
    return {name: part["rows"] for name, part in parts.items()}


def _shared(rows: Sequence[Row]) -> list[Row]:
    return [{k: without_folders(v) for k, v in row.items()} for row in rows]


def verdict(parts: Parts) -> tuple[bool, str]:
    """Return whether something ran and all of it is within its limits, and a line about it."""
    rows = [row for part in parts.values() for row in part]
    counts = {o: sum(row["outcome"] == o for row in rows) for o in (RAN, FAILED, NOT_RUN)}
    line = f"{counts[RAN]} ran, {counts[FAILED]} failed, {counts[NOT_RUN]} not run"
    return not counts[FAILED] and counts[RAN] > 0, line
