"""A timeline as its lines come, and as one answer when all are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from service.contract.timeline import EndLine, ProblemLine, Timeline, joined
from service.contract.timeline import TimelineLine as TimelineLine
from xclip_serve.errors import ClassifyError

_LINE: TypeAdapter[TimelineLine | ProblemLine] = TypeAdapter(
    Annotated[TimelineLine | ProblemLine, Field(discriminator="kind")]
)


class LineReader:
    """Read the lines of a body that comes in pieces."""

    def __init__(self) -> None:
        self._begun = b""
        self._ended = False

    def read(self, piece: bytes) -> list[TimelineLine]:
        """Return the lines that end in this piece.

        Raises:
            ClassifyError: One of them is a problem, or no line of a timeline.
        """
        *lines, self._begun = (self._begun + piece).split(b"\n")
        read = [_read(line) for line in lines]
        self._ended = self._ended or any(isinstance(line, EndLine) for line in read)
        return read

    def finish(self) -> None:
        """Say that the body is at its end; ClassifyError where its last line did not come."""
        if not self._ended:
            raise _broken_off()


def _broken_off() -> ClassifyError:
    return ClassifyError("unexpected_answer", "the answer broke off before its last line")


def _read(text: bytes) -> TimelineLine:
    try:
        line = _LINE.validate_json(text)
    except ValidationError:
        raise ClassifyError(
            "unexpected_answer", f"a line is none of a timeline: {text[:60]!r}"
        ) from None
    if isinstance(line, ProblemLine):
        raise ClassifyError(line.code, line.detail, status=line.status, request_id=line.request_id)
    return line


def timeline_of(lines: Iterable[TimelineLine]) -> Timeline:
    """Put lines together; ClassifyError where the last one is not there."""
    if (timeline := joined(lines)) is None:
        raise _broken_off()
    return timeline
