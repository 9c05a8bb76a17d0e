"""Measuring for comparison: contestants take turns in one process, medians count."""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
LIBRARIES = (
    "torch", "triton", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt",
    "openvino", "numpy", "av", "decord", "decord2", "torchcodec", "opencv-python-headless",
    "fastapi", "uvicorn", "litserve",
)  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one contestant."""

    median_ms: float
    best_ms: float
    worst_ms: float
    rounds: int


def take_turns(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, Timing]:
    """Run all of them in every round, so that a busy moment of the machine hits each alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    for turn in range(-warm_up, rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: timing_of(values) for name, values in seconds.items()}


def timing_of(seconds: list[float]) -> Timing:
    """Summarise one contestant's seconds."""
    return Timing(
        median_ms=1e3 * statistics.median(seconds),
        best_ms=1e3 * min(seconds),
        worst_ms=1e3 * max(seconds),
        rounds=len(seconds),
    )


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    return {
        "processor": _processor(),
        "processors_used": _processors(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def publish(name: str, command: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Print a table of the rows and write `docs/benchmarks/NAME.json`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for key, value in facts.items():
        console.print(f"{key}: {value}", highlight=False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = {name: without_folders(value) for name, value in facts.items()}
    report = {
        "command": without_folders(command),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
    }
    report |= {**facts, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


def without_folders(value: Any) -> Any:
    """Remove folders of the measuring machine from a text."""
    if isinstance(value, dict):
        return {name: without_folders(part) for name, part in value.items()}
    if isinstance(value, str):
        return re.sub(r"(?<![\w.:/])/(?:[\w.+-]+/)+", "", value)
    return value


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def as_row(name: str, timing: Timing, **more: Any) -> dict[str, Any]:
    """Return one line of the table."""
    return {"what": name, **asdict(timing), **more}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _processors() -> int:
    """Count the processors of this process; where export is not to be had, all allowed."""
    try:
        from export.runtime import available_cpus
    except ImportError:
        return len(os.sched_getaffinity(0))
    return available_cpus()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
