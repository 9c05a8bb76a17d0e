"""The parts in their order."""

from __future__ import annotations

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.outcomes import Row, say


def run_parts(check: Check) -> dict[str, list[Row]]:
    """The rows of each part that was asked for."""
    from benchmarks.gpu_check.parity import parity
    from benchmarks.gpu_check.service import service
    from benchmarks.gpu_check.speed import matrix_peaks, speed
    from benchmarks.gpu_check.training import training

    rows: dict[str, list[Row]] = {}
    for name in check.options.parts:
        say(f"--- {name}")
        if name == "parity":
            rows[name] = list(parity(check))
        elif name == "speed":
            # In the same run: a card that is warm or throttled is so for both.
            rows["peaks"] = list(matrix_peaks(check))
            rows[name] = list(speed(check, rows["peaks"]))
        elif name == "service":
            rows[name] = list(service(check))
        else:
            rows[name] = list(training(check))
    return rows
