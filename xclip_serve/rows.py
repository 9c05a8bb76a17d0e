"""What a table says of a clip: its columns, and a row for an answer or a problem."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from model.command_line import one_line
from service.contract.answer import Classification
from xclip_serve.errors import ClassifyError
from xclip_serve.vectors import ClipVector


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes:
        top_k: Number of labels that a row names, best first.
        scored: Labels whose scores have a column each.
        open_set: Whether probabilities are asked for.
        coverage: Whether a set of labels is.
    """

    top_k: int = 1
    scored: tuple[str, ...] = ()
    open_set: bool = False
    coverage: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        ranks = [name for rank in range(1, self.top_k + 1) for name in self._names(rank)]
        scores = map(_score_of, self.scored)
        none = ("none_of_these",) if self.open_set else ()
        covering = ("label_set",) if self.coverage else ()
        return ("path", *ranks, *scores, *none, *covering, "duration_s", "code", "error")

    def row(self, clip: str, answer: Classification | ClassifyError) -> dict[str, Any]:
        """Return the row of a clip; what it has no value for is None."""
        row: dict[str, Any] = dict.fromkeys(self.columns)
        row["path"] = shown(clip)
        if isinstance(answer, ClassifyError):
            return {**row, "code": answer.code, "error": one_line(answer.detail)}
        for rank, prediction in enumerate(answer.predictions[: self.top_k], start=1):
            values = [prediction.label, prediction.score, prediction.similarity]
            values += [prediction.probability] if self.open_set else []
            row.update(zip(self._names(rank), values, strict=True))
        if self.scored:
            row.update({_score_of(p.label): p.score for p in answer.predictions})
        if self.open_set:
            row["none_of_these"] = answer.none_of_these
        if self.coverage and answer.label_set is not None:
            row["label_set"] = json.dumps(answer.label_set, ensure_ascii=False)
        return {**row, "duration_s": answer.video.duration_s}

    def _names(self, rank: int) -> tuple[str, ...]:
        ending = "" if rank == 1 else f"_{rank}"
        names = ("label", "score", "similarity", *(("probability",) if self.open_set else ()))
        return tuple(f"{name}{ending}" for name in names)


class VectorLayout:
    """The columns of a table of vectors."""

    columns = ("path", "embedding", "duration_s", "code", "error")

    def row(self, clip: str, answer: ClipVector | ClassifyError) -> dict[str, Any]:
        """Return the row of a clip; what it has no value for is None."""
        row: dict[str, Any] = dict.fromkeys(self.columns)
        row["path"] = shown(clip)
        if isinstance(answer, ClassifyError):
            return {**row, "code": answer.code, "error": one_line(answer.detail)}
        return {
            **row,
            "embedding": answer.vector.tolist(),
            "duration_s": answer.video.duration_s,
        }


def shown(clip: str) -> str:
    """Return a path as text that fits in a line, whatever bytes are in the file's name."""
    text = os.fsencode(clip).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _score_of(label: str) -> str:
    return f"score: {label}"
