"""A process that imports a library, loads a model and answers once; then it waits.

    python -m benchmarks.lib.first_answer transformers|open_clip MODEL CLIP

Prints `answered` with the first answer's best label and stays until its input ends, so that its
memory can be looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from export.runtime.cpus import available_cpus

Answer = Callable[[bytes, Sequence[str]], dict[str, float]]


def pipeline_of(library: str, folder: Path) -> Answer:
    """Load the model with the library."""
    if library == "open_clip":
        from benchmarks.lib import open_clip_pipeline

        return open_clip_pipeline.Pipeline(folder, threads=available_cpus())
    from benchmarks.lib import transformers

    return transformers.Pipeline(folder, threads=available_cpus())


def main(library: str, model: str, clip: str) -> None:
    """Load, answer, wait."""
    answer = pipeline_of(library, Path(model))
    best = next(iter(answer(Path(clip).read_bytes(), ["juggling balls", "riding a horse"])))
    print("answered", best, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
