"""The fastest of several runtimes that all give the network's answer, found by trying them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from export.runtime.contract import Runtime
from export.runtime.cpus import available_cpus
from model.inputs import InputSpec

RUNS = 5
MEASURE_S = 0.5  # no further run is begun then
# What is hardly faster is not worth another runtime at every other start.
CLEARLY = 1.1
NOT_HERE = "does not run here"
LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino")
CPU_INFO = Path("/proc/cpuinfo")


def seconds_per_clip(runtime: Runtime, spec: InputSpec) -> float:
    """Time the video encoder on one clip of noise: the best of a few runs, after one to warm up."""
    shape = (1, spec.num_frames, spec.image_size, spec.image_size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    runtime.encode_video(frames)
    taken: list[float] = []
    while len(taken) < RUNS and sum(taken) < MEASURE_S:
        started = time.perf_counter()
        runtime.encode_video(frames)
        taken.append(time.perf_counter() - started)
    return min(taken)


def fastest(contenders: Iterable[Runtime], spec: InputSpec) -> tuple[Runtime | None, list[str]]:
    """Keep the fastest of the runtimes, and close the others; no more than two are open at once.

    Args:
        contenders: Open runtimes, the preferred ones first; each is opened when it is asked for.
        spec: What they take.

    Returns:
        The one that is kept, None where there was none; and what was measured, a line for each.
        One alone is not measured.
    """
    best: Runtime | None = None
    best_s = 0.0
    lines: list[str] = []
    for runtime in contenders:
        if best is None:
            best = runtime
            continue
        if not lines:
            best_s = _measured(best, spec, lines)
        runtime_s = _measured(runtime, spec, lines)
        if runtime_s * CLEARLY < best_s:
            best, best_s, runtime = runtime, runtime_s, best
        runtime.close()
    return best, lines


def _measured(runtime: Runtime, spec: InputSpec, lines: list[str]) -> float:
    """Time a runtime and say so; without end where it does not run."""
    try:
        seconds = seconds_per_clip(runtime, spec)
    except Exception as error:  # each library has its own
        lines.append(f"{runtime.name}: {runtime.precision} {NOT_HERE}: {error}")
        return math.inf
    lines.append(f"{runtime.name}: {runtime.precision} takes {1000 * seconds:.3g} ms a clip")
    return seconds


@dataclass(frozen=True)
class Choice:
    """What was the fastest, and what was measured."""

    name: str
    precision: str
    lines: tuple[str, ...]


class Choices:
    """What was the fastest on this machine, kept in a folder: losing it costs measuring again.

    Args:
        folder: Where to keep it; made when there is something to keep.
        question: What was to be chosen from: the bundle, and what was asked for.
        threads: How many threads a runtime has; None is what there is.
    """

    def __init__(self, folder: Path, question: Sequence[str], threads: int | None) -> None:
        machine = [platform.machine(), _processor(), str(threads or available_cpus())]
        state = json.dumps([*question, *machine, *map(_version, LIBRARIES)])
        self._file = folder / f"{hashlib.sha256(state.encode()).hexdigest()[:32]}.json"

    def recall(self) -> Choice | None:
        """Return what was found before; None where nothing was, or it cannot be read."""
        try:
            fields = json.loads(self._file.read_text())
            return Choice(str(fields["name"]), str(fields["precision"]), tuple(fields["lines"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, choice: Choice) -> None:
        """Keep what was found, where the folder can be written to."""
        unfinished = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(choice.__dict__))
            unfinished.replace(self._file)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """Name the processor and what it can do; empty where the system does not tell."""
    facts = []
    with contextlib.suppress(OSError), CPU_INFO.open() as lines:
        for line in lines:
            if not line.strip():  # the other processors are the same
                break
            if line.startswith(("model name", "flags", "Features", "CPU part")):
                facts.append(line.strip())
    return "\n".join(facts)
