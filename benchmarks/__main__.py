"""Run the benchmarks of the CPU, one after another, each in a process of its own.

    python -m benchmarks [NAME …]

Each prints a table and writes `docs/benchmarks/NAME.json`; at the end `docs/benchmarks/cpu.md` is
written from them. One that misses its goal or fails is named. What needs a GPU, hours or files that
`make demo` leaves runs by name only.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CPU = (
    "encoder", "stages", "text_length", "decode", "decode_plan", "decode_pool", "latency",
    "profile_request", "labels", "start", "serving", "batch",
)  # fmt: skip


def names() -> list[str]:
    """Return every benchmark there is, by module name."""
    programs = [*FOLDER.glob("*.py"), *(p.parent for p in FOLDER.glob("*/__main__.py"))]
    return sorted(p.stem for p in programs if not p.stem.startswith("_"))


def main(requested: list[str]) -> int:
    """Run the requested benchmarks (the CPU's by default); the exit status counts failures."""
    unknown = sorted(set(requested) - set(names()))
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(names())}")
        return 2
    failed = []
    for name in requested or (*CPU, "page"):
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        run = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=FOLDER.parent)
        print(f"=== {name}: {time.monotonic() - started:.0f} s, exit {run.returncode}", flush=True)
        if run.returncode:
            failed.append(name)
    if failed:
        print(f"failed, or missed a goal: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
