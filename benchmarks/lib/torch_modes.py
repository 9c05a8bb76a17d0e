"""A piece of a torch network as people run it: eager and compiled, fp32 and bf16 by autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.lib.transformers import autocast
from model.command_line import first_line

Piece = Callable[[], Any]


def torch_modes(name: str, piece: Piece) -> tuple[dict[str, Piece], dict[str, str]]:
    """Make the piece in every mode, by a name for the table; say why a mode does not run.

    Each has run once, so compiling is over when it is timed.
    """
    running: dict[str, Piece] = {}
    missing: dict[str, str] = {}
    for mode, run in (("eager", piece), ("compiled", torch.compile(piece))):
        for precision in ("fp32", "bf16"):
            title = f"{name} {mode} {precision}"
            contestant = _in(precision, run)
            try:
                contestant()
            except Exception as error:  # no compiler, or one that fails: the others still run
                missing[title] = f"{type(error).__name__}: {first_line(error)[:80]}"
            else:
                running[title] = contestant
    return running, missing


def _in(precision: str, run: Piece) -> Piece:
    @torch.inference_mode()
    def contestant() -> Any:
        with autocast(precision):
            return run()

    return contestant
