"""The rows of a table: what is asked about each clip, and what comes of it, whoever is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from xclip_serve.errors import NOT_OF_THE_CLIP, ClassifyError
from xclip_serve.labels import Labels
from xclip_serve.question import Options
from xclip_serve.rows import Layout, VectorLayout

if TYPE_CHECKING:
    from xclip_serve.classifier import Classifier
    from xclip_serve.client import Client

SAMPLING = ("start", "end", "views", "frame_rule")


@dataclass(frozen=True)
class RowQuestion:
    """What is asked about every clip of a table.

    Attributes:
        labels: What may be seen.
        options: The optional fields of the question.
        layout: The columns.
    """

    labels: Labels
    options: Options
    layout: Layout | VectorLayout

    def rows(
        self,
        ask: Classifier | Client,
        clips: Sequence[str],
        check_bundle: Callable[[str], None],
        **jobs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield the row of each clip, in no order.

        Args:
            ask: Who is asked.
            clips: Paths and addresses.
            check_bundle: Is told which network answers before its first row is handed on.
            **jobs: `at_once`, where a server is asked.

        Raises:
            ClassifyError: No other clip would be answered either.
            ValueError: What `check_bundle` says.
        """
        empty = [clip for clip in clips if os.path.isfile(clip) and not os.path.getsize(clip)]
        for clip in empty:  # the API takes an empty file for a mistake in the question
            yield self.layout.row(clip, ClassifyError("not_a_video", "the file is empty"))
        clips = [clip for clip in clips if clip not in empty] if empty else clips
        for clip, answer in self._answers(ask, clips, jobs):
            if isinstance(answer, ClassifyError) and answer.code in NOT_OF_THE_CLIP:
                raise answer
            if not isinstance(answer, ClassifyError):
                vector = isinstance(self.layout, VectorLayout)
                check_bundle(answer.bundle if vector else answer.model.bundle)
            yield self.layout.row(clip, answer)

    def _answers(
        self, ask: Classifier | Client, clips: Sequence[str], jobs: dict[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        if isinstance(self.layout, VectorLayout):
            sampling = cast("Options", {name: self.options.get(name) for name in SAMPLING})
            return ask.embed_many(clips, **sampling, **jobs)
        options = self.options
        if self.layout.scored:
            options = cast("Options", {**options, "top_k": None})
        named = self.labels.named
        answers = ask.classify_many(clips, self.labels.texts, **options, **jobs)
        return (
            (clip, answer if isinstance(answer, ClassifyError) else named(answer))
            for clip, answer in answers
        )
