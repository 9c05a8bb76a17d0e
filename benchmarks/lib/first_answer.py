"""A process that imports transformers, loads the model and answers once; then it waits.

    python -m benchmarks.lib.first_answer MODEL CLIP

Prints `answered` with the first answer's best label and stays until its input ends, so that its
memory can be looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.lib.transformers import Pipeline
from export.runtime.cpus import available_cpus


def main(model: str, clip: str) -> None:
    """Load, answer, wait."""
    pipeline = Pipeline(Path(model), threads=available_cpus())
    answer = pipeline(Path(clip).read_bytes(), ["juggling balls", "riding a horse"])
    print("answered", next(iter(answer)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
