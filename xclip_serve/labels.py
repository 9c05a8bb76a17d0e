"""Labels of a question, from a command line or a file: what they are called, and what is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.contract.answer import Classification
    from xclip_serve.timelines import TimelineLine


@dataclass(frozen=True)
class Labels:
    """K labels: `names` are what answers say, `texts` what the network reads, one for each."""

    names: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Labels:
        """Return labels that are called what they read."""
        texts = tuple(texts)
        return cls(texts, texts)

    def __add__(self, others: Labels) -> Labels:
        return Labels(self.names + others.names, self.texts + others.texts)

    def __bool__(self) -> bool:
        return bool(self.names)

    def named(self, answer: Classification) -> Classification:
        """Return an answer to the texts with the names in their place."""
        if self.names == self.texts:
            return answer
        name = dict(zip(self.texts, self.names, strict=True))
        changed: dict[str, object] = {
            "predictions": tuple(
                replace(p, label=name.get(p.label, p.label)) for p in answer.predictions
            )
        }
        if answer.label_set is not None:
            changed["label_set"] = tuple(name.get(text, text) for text in answer.label_set)
        if (explanation := answer.explanation) is not None:
            backwards = explanation.reversed.label
            changed["explanation"] = explanation.model_copy(
                update={
                    "label": name.get(explanation.label, explanation.label),
                    "reversed": explanation.reversed.model_copy(
                        update={"label": name.get(backwards, backwards)}
                    ),
                }
            )
        return answer.model_copy(update=changed)

    def named_line(self, line: TimelineLine) -> TimelineLine:
        """Return a line of a timeline of the texts with the names in their place."""
        if self.names == self.texts:
            return line
        if line.kind == "window":
            predictions = tuple(replace(p, label=self.names[p.index]) for p in line.predictions)
            return line.model_copy(update={"predictions": predictions})
        if line.kind == "end":
            segments = tuple(
                s.model_copy(update={"label": self.names[s.index]}) for s in line.segments
            )
            return line.model_copy(update={"segments": segments})
        return line


def read_label_file(path: Path) -> Labels:
    """Return the labels in the order of the file; empty lines are passed over.

    A file is one label a line, or a table with a column `name` and, where the network is to read
    something else, a column `text`.

    Raises:
        ValueError: The file holds no label, or is no text; a row of a table that is wrong.
        OSError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    header = lines[0].strip().lower().split(",") if lines else []
    if "name" in header:
        from model.data.lists.labels import read_labels

        known = read_labels(path)
        return Labels(known.names, known.texts)
    labels = [line.strip() for line in lines if line.strip()]
    if not labels:
        raise ValueError(f"{path} holds no label; write one a line")
    return Labels.of(labels)
