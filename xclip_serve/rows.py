"""What a table says of a clip: its columns, and a row for an answer or a problem."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from model.command_line import one_line
from service.contract.answer import Classification
from xclip_serve.errors import ClassifyError


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes:
        top_k: Number of labels that a row names, best first.
        scored: Labels whose scores have a column each.
    """

    top_k: int = 1
    scored: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        ranks = [name for rank in range(1, self.top_k + 1) for name in _names(rank)]
        scores = map(_score_of, self.scored)
        return ("path", *ranks, *scores, "duration_s", "code", "error")

    def row(self, clip: str, answer: Classification | ClassifyError) -> dict[str, Any]:
        """Return the row of a clip; what it has no value for is None."""
        row: dict[str, Any] = dict.fromkeys(self.columns)
        row["path"] = shown(clip)
        if isinstance(answer, ClassifyError):
            return {**row, "code": answer.code, "error": one_line(answer.detail)}
        for rank, prediction in enumerate(answer.predictions[: self.top_k], start=1):
            values = (prediction.label, prediction.score, prediction.similarity)
            row.update(zip(_names(rank), values, strict=True))
        if self.scored:
            row.update({_score_of(p.label): p.score for p in answer.predictions})
        return {**row, "duration_s": answer.video.duration_s}


def shown(clip: str) -> str:
    """Return a path as text that fits in a line, whatever bytes are in the file's name."""
    text = os.fsencode(clip).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _names(rank: int) -> tuple[str, str, str]:
    ending = "" if rank == 1 else f"_{rank}"
    return f"label{ending}", f"score{ending}", f"similarity{ending}"


def _score_of(label: str) -> str:
    return f"score: {label}"
