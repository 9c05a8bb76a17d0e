"""The parts in their order."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.outcomes import Row, say


def run_parts(check: Check) -> Iterator[tuple[str, list[Row]]]:
    """Run the requested parts; yield the name and rows of each as soon as it is done."""
    from benchmarks.gpu_check.parity import parity
    from benchmarks.gpu_check.service import service
    from benchmarks.gpu_check.speed import matrix_peaks, speed
    from benchmarks.gpu_check.training import training

    for name in check.options.parts:
        say(f"--- {name}")
        if name == "parity":
            yield name, list(parity(check))
        elif name == "speed":
            # In the same run: a card that is warm or throttled is so for both.
            peaks = list(matrix_peaks(check))
            yield "peaks", peaks
            yield name, list(speed(check, peaks))
        elif name == "service":
            yield name, list(service(check))
        else:
            yield name, list(training(check))
