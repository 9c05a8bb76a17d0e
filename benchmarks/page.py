"""Write docs/benchmarks/cpu.md and its plots from the JSON files beside it.

    python -m benchmarks.page

Nothing is measured here; `python -m benchmarks` does this at its end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.lib.bounds import Bound, bounds
from benchmarks.lib.goals import Goal, goals
from benchmarks.lib.markdown import cell, spelled, table
from benchmarks.lib.plots import plot_all
from benchmarks.lib.timing import RESULTS

Report = Mapping[str, Any]
TITLES = {
    "encoder": "Video encoder",
    "stages": "Text encoder and score head",
    "text_length": "Text cost follows the longest label",
    "decode": "Decode",
    "decode_plan": "What planning saves, codec by codec",
    "decode_pool": "Decode in confined processes",
    "latency": "One request",
    "profile_request": "Where each millisecond goes",
    "serving": "Under load",
    "batch": "Folders of clips",
    "labels": "Many labels",
    "timeline": "Timelines",
    "start": "Start and memory",
}
NOTES = {
    "encoder": "One clip of 8 frames. `of_eager`: share of transformers' eager fp32 time; "
    "`of_peak`: share of the largest matrix product's speed in that precision. The averaged CLIP "
    "computes less: no messages, no integration, no context. Of CLIP B/16 and PE-Core-B, with 8 "
    "frames averaged, `of_eager` is the share of open_clip's eager fp32 time.",
    "stages": "`of_eager`: share of transformers' eager fp32 time.",
    "decode": "Milliseconds of the processor with one thread, on the clock with more. By "
    "`keyframes` ours takes other frames than the peers, whose exact ones it is held against. `the "
    "same, decoder alone`: that share where FFmpeg's decoder takes these packets and nothing is "
    "read, converted or resized. The times of all readers are in decode.json.",
    "latency": "transformers decodes, processes and runs the model in one process, without HTTP; "
    "ours is asked over HTTP. `of_first`: share of the same server's request with ten new labels.",
    "serving": "Every request brings another file with the same frames, so no server knows a clip "
    'again. "known" labels: the same ten each time, which ours keeps and the peers encode each '
    'time; "new": ten others in each request. FastAPI and LitServe run transformers\' eager model. '
    "`cpu ms`: processor time of one clip in the server, in its decode workers and in the clients, "
    "who all share the processors.",
    "batch": "`xclip-serve batch` and the server in turns, in the same precision and runtime; "
    "every clip is seen for the first time.",
    "labels": "One clip held by the server, fp32. `again_ms`: the whole request with labels seen "
    "before. Memory: the peak of the server process since its first ten labels.",
    "timeline": "Seconds of the processors. `of_the_sum`: what server and workers take, over what "
    "decoding the film once and encoding its windows does. Memory: all processes (PSS).",
    "start": "Ours until `/readyz` says 200; transformers and open_clip until their first answer, "
    "whose share `of_peer` is. Memory is proportional (PSS), with decode workers: pages that two "
    "processes share count half in each. "
    "packed: with packed weights kept by the first server (`XCLIP_WEIGHT_CACHE`).",
}
# Facts for readers of the JSON files that would only be long on the page.
LEFT_OUT = {
    "command", "date", "machine", "rows", "of_best_peer", "encoder_fp32_ms_by_operation", "readers"
}  # fmt: skip


def main() -> int:
    """Read what there is, draw, write."""
    reports = read_reports(RESULTS)
    if not reports:
        print("no reports yet: run python -m benchmarks")
        return 1
    pictures = plot_all(reports, RESULTS)
    profile = RESULTS / "profile.png"
    if profile.exists():
        pictures["profile_request"] = profile
    target = RESULTS / "cpu.md"
    target.write_text(page(reports, pictures))
    print(f"wrote {target.relative_to(RESULTS.parent.parent)}")
    return 0


def read_reports(folder: Path) -> dict[str, Report]:
    """Return the JSON files of the page that exist, in its order."""
    files = {name: folder / f"{name}.json" for name in TITLES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def page(reports: Mapping[str, Report], pictures: Mapping[str, Path]) -> str:
    """Format the whole page as Markdown."""
    parts = ["# Speed on the CPU", _introduction(), _machine(reports), _goals(goals(reports))]
    parts += _bounds(bounds(reports))
    for name, title in TITLES.items():
        parts += [f"## {title}", *_section(name, reports.get(name), pictures.get(name))]
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return (
        "X-CLIP B/32, 8 frames, random weights (speed does not depend on training). Figures are "
        "medians; compare them within a section, whose contestants ran side by side on one "
        "machine. `make bench` measures all of this again; `python -m benchmarks.page` writes this "
        "page from the JSON files beside it."
    )


def _machine(reports: Mapping[str, Report]) -> str:
    """Say where it was measured; reports of another machine or day say so."""
    seen: dict[str, list[str]] = {}
    for name, report in reports.items():
        machine = report["machine"]
        versions = ", ".join(f"{lib} {number}" for lib, number in machine["libraries"].items())
        where = (
            f"{machine['processor']}, {machine['processors_used']} processors, "
            f"{report['date']}, Python {machine['python']}, {versions}"
        )
        seen.setdefault(where, []).append(name)
    lines = [f"- {', '.join(names)}: {where}" for where, names in seen.items()]
    if len(lines) == 1:
        return f"Measured on: {next(iter(seen))}."
    return "\n".join(["Measured on:", "", *lines])


def _goals(listed: list[Goal]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        {
            "goal": goal.about,
            "bound": f"{'≥' if goal.at_least else '≤'} {cell(goal.bound)}",
            "measured": "–" if goal.measured is None else f"{cell(goal.measured)} {goal.unit}",
            "holds": words[goal.holds],
        }
        for goal in listed
    ]
    kept = sum(goal.holds is True for goal in listed)
    return f"## Goals\n\n{kept} of {len(listed)} hold.\n\n{table(rows)}"


def _bounds(listed: list[Bound]) -> Iterator[str]:
    if listed:
        yield "## What this machine allows"
        yield (
            "With every product at the measured matrix peak, or with both processors busy all the "
            "time, and nothing else to do. Where a bound above is beyond such a figure, this "
            "machine cannot meet it in that precision."
        )
        yield table([{"goal": b.about, "at best": b.best, "because": b.because} for b in listed])


def _section(name: str, report: Report | None, picture: Path | None) -> Iterator[str]:
    if report is None:
        yield f"Not run yet: `python -m benchmarks.{name}`."
        return
    yield f"`{report['command']}`"
    if name in NOTES:
        yield NOTES[name]
    if picture is not None:
        yield f"![{TITLES[name]}]({picture.name})"
    yield table(report["rows"])
    if ratios := report.get("of_best_peer"):
        yield "Ours over the best peer of the same precision (int8: of any), clips a second:"
        yield table(ratios)
    facts = [f"- {spelled(k)}: {_value(v)}" for k, v in report.items() if k not in LEFT_OUT]
    if facts:
        yield "\n".join(facts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {cell(part)}" for name, part in value.items())
    return cell(value)


if __name__ == "__main__":
    sys.exit(main())
