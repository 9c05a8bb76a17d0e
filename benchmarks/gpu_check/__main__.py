"""Check everything on an NVIDIA GPU, and measure it.

    python -m benchmarks.gpu_check [--parts parity speed service training] [--device cpu] …

Answers of every runtime, precision and variant against torch in fp32; the video encoder's speed
against transformers' model and the card's own peak; the service under load; an update of training.
Writes `docs/benchmarks/gpu.json` and `gpu.md`. What is not installed or does not open is "not run",
with its reason, and never counts as passed. The exit status is 0 where all that ran is within its
limits and something ran, 1 where not, 2 for a mistake on the command line, 3 without a GPU. Goals
of speed are printed and change no exit status.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.gpu_check.options import Options, read_options

if TYPE_CHECKING:
    from benchmarks.gpu_check.device import Device

FAILURE, NO_GPU = 1, 3


def main(arguments: Sequence[str]) -> int:
    """Run the parts, write the report, print it."""
    options = read_options(arguments)
    try:
        from benchmarks.gpu_check.device import NoGpu, find_device
    except ImportError as error:
        print(f"error: torch cannot be loaded, and nothing runs without it: {error}")
        return NO_GPU
    try:
        device = find_device(options.device)
    except NoGpu as error:
        print(f"error: {error}")
        return NO_GPU
    return _run(options, device, f"python -m benchmarks.gpu_check {shlex.join(arguments)}".strip())


def _run(options: Options, device: Device, command: str) -> int:
    from benchmarks.gpu_check.check import Check
    from benchmarks.gpu_check.parts import run_parts
    from benchmarks.gpu_check.report import (
        make_report,
        page,
        read_report,
        verdict,
        write_report,
    )

    check = Check(options, device)
    about, before = device.about(), read_report(options.output)
    parts, report = {}, None
    for name, rows in run_parts(check):
        parts[name] = rows
        report = make_report(parts, about, command, before)
        # After each part: what was measured is not lost when the next one is cut off.
        write_report(report, options.output)
    print(page(report))
    passed, line = verdict(parts)
    print(f"{line}: {'within the limits' if passed else 'NOT PASSED'}")
    return 0 if passed else FAILURE


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(main(sys.argv[1:]))
