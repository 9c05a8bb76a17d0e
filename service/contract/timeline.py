"""What is asked of POST /timeline, and answered: labels over the length of a video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.inputs import FrameRule
from model.inputs.clip import Seconds, Side
from model.inputs.work import CodecName
from service.contract.answer import ModelName, Prediction, Problem, Timing
from service.contract.body import ClipBody, Texts
from service.contract.request import Question

DEFAULT_WINDOW_S = 4.0
DEFAULT_TOP_K = 5
MOST_TOP_K = 100  # a video has a thousand windows
LEAST_WINDOW_S = 0.1
MOST_OVERLAP = 16  # windows that hold one moment

_WHERE_ASKED = Field(exclude_if=lambda value: value is None)


class TimelineBody(ClipBody):
    """The fields of POST /v1/timeline: a clip, labels, and how it is cut into windows.

    Attributes:
        window_s: Seconds of a window.
        stride_s: Seconds from the start of a window to that of the next.
        labels: As they were written, one each.
        label_set: Name of a list stored in the bundle, instead of labels.
        templates: Prompts with one `{}` each.
        top_k: How many of the best labels of each window to answer.
        scores: `softmax` or `sigmoid`.
        open_set: Also say how likely none of the labels is.
    """

    window_s: float | None = None
    stride_s: float | None = None
    labels: Texts | None = None
    label_set: str | None = None
    templates: Texts | None = None
    top_k: int | None = None
    scores: str | None = None
    open_set: bool | None = None


@dataclass(frozen=True)
class TimelineQuestion:
    """How a video is cut into windows, and what is asked of each.

    Attributes:
        window_s: Seconds of a window.
        stride_s: Seconds from the start of a window to that of the next.
        question: What is asked of each window; `top_k` is set.
    """

    window_s: float
    stride_s: float
    question: Question


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class TimelineVideo(_Answer):
    """Facts of a video that is looked at in windows; see `VideoFacts`."""

    duration_s: Seconds
    fps: Seconds | None
    width: Side
    height: Side
    codec: CodecName
    frame_rule: FrameRule


class TimelineWindow(_Answer):
    """One window, best label first: what POST /classify answers with this `start` and `end`."""

    start_s: float
    end_s: float
    frame_times_s: tuple[float, ...]
    predictions: tuple[Prediction, ...]
    none_of_these: Annotated[float | None, _WHERE_ASKED] = None


class TimelineSegment(_Answer):
    """A stretch of the video that a label holds through; `score` is its mean over the windows.

    `index` is where the label stands in the request (or in its label set), from 0.
    """

    label: str
    index: int
    start_s: float
    end_s: float
    score: float


class TimelineFacts(_Answer):
    """What is known before the first window is answered; `windows` is how many there will be."""

    model: ModelName
    video: TimelineVideo
    window_s: float
    stride_s: float
    windows: int
    warnings: tuple[str, ...] = ()


class Timeline(_Answer):
    """The answer of POST /timeline: windows in order, and the segments that they make."""

    model: ModelName
    video: TimelineVideo
    window_s: float
    stride_s: float
    windows: tuple[TimelineWindow, ...]
    segments: tuple[TimelineSegment, ...]
    timing_ms: Timing
    warnings: tuple[str, ...] = ()


# --- lines of application/x-ndjson: one FactsLine, a WindowLine each, one EndLine or ProblemLine --


class FactsLine(TimelineFacts):
    """The first line."""

    kind: Literal["facts"] = "facts"


class WindowLine(TimelineWindow):
    """A window, as soon as it is done; in order."""

    kind: Literal["window"] = "window"


class EndLine(_Answer):
    """The last line of a whole answer."""

    kind: Literal["end"] = "end"
    segments: tuple[TimelineSegment, ...]
    timing_ms: Timing
    warnings: tuple[str, ...] = ()


class ProblemLine(Problem):
    """The last line where the work failed after the first."""

    kind: Literal["problem"] = "problem"


TimelineLine = FactsLine | WindowLine | EndLine
"""A line: facts of the video, then each window in order, then the end with the segments."""


def joined(lines: Iterable[TimelineLine]) -> Timeline | None:
    """Return the one answer that the lines make; None where the first or the last is not there."""
    facts: FactsLine | None = None
    end: EndLine | None = None
    windows = []
    for line in lines:
        if isinstance(line, FactsLine):
            facts = line
        elif isinstance(line, EndLine):
            end = line
        else:
            windows.append(line)
    if facts is None or end is None:
        return None
    return Timeline(
        model=facts.model,
        video=facts.video,
        window_s=facts.window_s,
        stride_s=facts.stride_s,
        windows=tuple(windows),
        segments=end.segments,
        timing_ms=end.timing_ms,
        warnings=(*facts.warnings, *end.warnings),
    )
