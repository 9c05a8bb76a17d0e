"""When each label is seen: the scores of windows merged to segments by hysteresis. K labels.

A label is on from the first window in which its score reaches `enter` until one in which it falls
below `leave`: what wavers between the two neither begins nor ends anything. A window speaks for the
time that is nearer to it than to its neighbours, so a border lies in the middle of the overlap
of two windows. Where windows do not touch, what lies between them belongs to a segment only if
its label is on at both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.contract.answer import Prediction
from service.contract.timeline import TimelineSegment

DIGITS = 3  # of a second, as windows have them

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Hysteresis:
    """The rule of one timeline.

    Attributes:
        enter: The score from which a label is on.
        leave: The score below which it is off again; at most `enter`.
        exclusive: Whether one label at most is true at a time. Then of all that are on the best is.
    """

    enter: float = 0.5
    leave: float = 0.35
    exclusive: bool = True


@dataclass
class _Open:
    """A segment that has not ended: what its windows gave so far."""

    start_s: float
    total: float = 0.0
    windows: int = 0


class SegmentMerger:
    """Take windows in the order of time, and give each segment once it has ended.

    Holds a segment for each label that is on, whatever the length of the video.

    Args:
        labels: K names.
        rule: When a label is on.
    """

    def __init__(self, labels: Sequence[str], rule: Hysteresis) -> None:
        self._labels, self._rule = labels, rule
        self._bounds = np.full(len(labels), rule.enter)
        self._open: dict[int, _Open] = {}
        self._end_s: float | None = None

    def add(self, start_s: float, end_s: float, scores: Scores) -> list[TimelineSegment]:
        """Take the next window.

        Args:
            start_s: Where it begins; not before the one before.
            end_s: Where it ends; not before the one before.
            scores: Of each label, from 0 to 1, float64 (K,).

        Returns:
            The segments that ended with the window before.
        """
        before_s = start_s if self._end_s is None else self._end_s
        middle_s = (before_s + start_s) / 2
        on = np.flatnonzero(scores >= self._bounds)
        if self._rule.exclusive and len(on):
            on = on[[scores[on].argmax()]]
        ended = self._ended(self._open.keys() - set(on.tolist()), min(before_s, middle_s))
        for index in on.tolist():
            segment = self._open.setdefault(index, _Open(max(start_s, middle_s)))
            segment.total += float(scores[index])
            segment.windows += 1
        self._bounds[on] = self._rule.leave
        self._end_s = end_s
        return ended

    def finish(self) -> list[TimelineSegment]:
        """Return the segments that last to the end of the last window."""
        return [] if self._end_s is None else self._ended(list(self._open), self._end_s)

    def _ended(self, indices: Iterable[int], end_s: float) -> list[TimelineSegment]:
        ended = []
        for index in sorted(indices):
            segment = self._open.pop(index)
            self._bounds[index] = self._rule.enter
            mean = segment.total / segment.windows
            ended.append(
                TimelineSegment(
                    label=self._labels[index],
                    index=index,
                    start_s=round(segment.start_s, DIGITS),
                    end_s=round(end_s, DIGITS),
                    score=mean,
                )
            )
        return ended


def merge_segments(
    labels: Sequence[str],
    windows: Iterable[tuple[float, float, Scores]],
    rule: Hysteresis = Hysteresis(),
) -> tuple[TimelineSegment, ...]:
    """Return all segments of windows (start, end, scores), by their beginnings."""
    merger = SegmentMerger(labels, rule)
    segments = [segment for window in windows for segment in merger.add(*window)]
    return in_order([*segments, *merger.finish()])


def in_order(segments: Iterable[TimelineSegment]) -> tuple[TimelineSegment, ...]:
    """Sort segments by their beginnings; the surer first."""
    return tuple(sorted(segments, key=lambda s: (s.start_s, -s.score)))


def window_scores(
    count: int,
    predictions: Sequence[Prediction],
    none_of_these: float | None,
    *,
    exclusive: bool,
) -> Scores:
    """Return what segments are made of: how likely each label is in a window, float64 (K,).

    With `open_set` it is the probability, which leaves room for none of the labels; of labels that
    are scored each for itself none is likelier than that any of them is true.

    Args:
        count: K; labels that a shortlist has left out are 0.
        predictions: Of all labels that were scored.
        none_of_these: Of the window; None without `open_set`.
        exclusive: Whether one label at most is true: not by `scores=sigmoid`.
    """
    scores = np.zeros(count)
    for prediction in predictions:
        scores[prediction.index] = prediction.score
        if none_of_these is not None and exclusive:
            scores[prediction.index] = prediction.probability
    if none_of_these is None or exclusive:
        return scores
    return np.minimum(scores, 1 - none_of_these)
