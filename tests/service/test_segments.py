"""Windows to segments: borders, hysteresis, and what holds for whatever scores there are."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import open_bundle
from service.contract.answer import Prediction
from service.contract.request import Question
from service.contract.timeline import TimelineQuestion, TimelineSegment
from service.decode.window_protocol import WindowTimes
from service.decode.windows import DecodedWindows
from service.inference.segments import (
    Hysteresis,
    Scores,
    SegmentMerger,
    merge_segments,
    window_scores,
)
from service.inference.timeline import WindowRanker
from service.settings import DEMO_BUNDLE

STEP_S = 0.008  # half of it is still whole milliseconds
NEAR_S = 1e-6
SEVERAL = Hysteresis(exclusive=False)
Windows = list[tuple[float, float, Scores]]


def windows_of(*scores: list[float], window_s: float = 2, stride_s: float = 1) -> Windows:
    return [
        (stride_s * i, stride_s * i + window_s, np.array(row, np.float64))
        for i, row in enumerate(scores)
    ]


def spans(segments: tuple[TimelineSegment, ...]) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_s, s.end_s) for s in segments]


@st.composite
def timelines(draw: st.DrawFn) -> tuple[Windows, Hysteresis]:
    """Windows as a video gives them: the last one may be shorter, or end where another does."""
    count, labels = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    window, stride = draw(st.integers(1, 600)), draw(st.integers(1, 600))
    end = stride * (count - 1) + draw(st.integers(1, window))
    row = st.lists(st.integers(0, 16).map(lambda n: n / 16), min_size=labels, max_size=labels)
    windows = [
        (STEP_S * stride * i, STEP_S * min(stride * i + window, end), np.array(draw(row)))
        for i in range(count)
    ]
    leave, enter = sorted(draw(st.lists(st.floats(0.01, 1), min_size=2, max_size=2)))
    return windows, Hysteresis(enter, leave, draw(st.booleans()))


def names(windows: Windows) -> list[str]:
    return [f"label {k}" for k in range(len(windows[0][2]))]


def test_a_border_lies_in_the_middle_of_what_two_windows_share() -> None:
    windows = windows_of([0.9, 0.1], [0.8, 0.2], [0.1, 0.9])
    assert spans(merge_segments(["a", "b"], windows)) == [("a", 0, 2.5), ("b", 2.5, 4)]


def test_the_score_is_the_mean_of_the_windows() -> None:
    (segment,) = merge_segments(["a"], windows_of([0.75], [0.5], [1.0]))
    assert (segment.start_s, segment.end_s, segment.score) == (0, 4, 0.75)


def test_what_wavers_neither_begins_nor_ends() -> None:
    begun = windows_of([0.6], [0.4], [0.36], [0.4], [0.3])
    assert spans(merge_segments(["a"], begun)) == [("a", 0, 4.5)]
    assert merge_segments(["a"], windows_of([0.4], [0.49], [0.4])) == ()


def test_one_that_enters_ends_another_where_one_at_most_is_true() -> None:
    windows = windows_of([0.6, 0.4], [0.45, 0.55], [0.45, 0.55])
    assert spans(merge_segments(["a", "b"], windows)) == [("a", 0, 1.5), ("b", 1.5, 4)]
    assert spans(merge_segments(["a", "b"], windows, SEVERAL)) == [("a", 0, 4), ("b", 1.5, 4)]


def test_windows_that_do_not_touch() -> None:
    windows = windows_of([0.9], [0.9], [0.1], [0.9], window_s=1, stride_s=4)
    assert spans(merge_segments(["a"], windows)) == [("a", 0, 5), ("a", 12, 13)]


@pytest.mark.parametrize("score", [0.0, 0.4, 0.5, 1.0])
def test_one_window(score: float) -> None:
    found = spans(merge_segments(["a"], windows_of([score])))
    assert found == ([("a", 0, 2)] if score >= 0.5 else [])


def test_no_window() -> None:
    assert merge_segments(["a"], []) == ()


@pytest.mark.parametrize("exclusive", [True, False])
def test_all_equal(exclusive: bool) -> None:
    windows = windows_of(*[[0.5, 0.5]] * 5)
    found = spans(merge_segments(["a", "b"], windows, Hysteresis(exclusive=exclusive)))
    assert found == [("a", 0, 6), ("b", 0, 6)][: 1 if exclusive else 2]


@given(timelines())
def test_segments_lie_in_the_video_and_do_not_overlap(timeline: tuple[Windows, Hysteresis]) -> None:
    windows, rule = timeline
    segments = merge_segments(names(windows), windows, rule)
    ends_s = max(end_s for _, end_s, _ in windows)
    for segment in segments:
        assert 0 <= segment.start_s < segment.end_s <= ends_s + NEAR_S
        assert rule.leave <= segment.score <= 1
    groups = [[s for s in segments if s.label == name] for name in names(windows)]
    for group in [list(segments)] if rule.exclusive else groups:
        assert all(one.end_s <= other.start_s for one, other in pairwise(group))


@given(timelines())
def test_a_segment_holds_the_middles_of_windows_from_one_that_enters(
    timeline: tuple[Windows, Hysteresis],
) -> None:
    """Its first window enters, none of its windows is below `leave`."""
    windows, rule = timeline
    for segment in merge_segments(names(windows), windows, rule):
        index = names(windows).index(segment.label)
        inside = [
            scores[index]
            for start_s, end_s, scores in windows
            if segment.start_s - NEAR_S <= (start_s + end_s) / 2 < segment.end_s - NEAR_S
        ]
        assert inside[0] >= rule.enter
        assert min(inside) >= rule.leave


@given(timelines(), st.randoms())
def test_the_order_of_labels_does_not_matter(
    timeline: tuple[Windows, Hysteresis], random: Random
) -> None:
    windows, rule = timeline
    rule = Hysteresis(rule.enter, rule.leave, exclusive=False)  # ties go by the order
    order = list(range(len(names(windows))))
    random.shuffle(order)
    given_so = merge_segments(names(windows), windows, rule)
    permuted = merge_segments(
        [names(windows)[k] for k in order],
        [(start_s, end_s, scores[order]) for start_s, end_s, scores in windows],
        rule,
    )
    assert sorted(spans(permuted)) == sorted(spans(given_so))


@given(timelines(), st.integers(1, 1000))
def test_a_later_video_has_the_same_segments_later(
    timeline: tuple[Windows, Hysteresis], later_s: int
) -> None:
    windows, rule = timeline
    moved = [(start_s + later_s, end_s + later_s, scores) for start_s, end_s, scores in windows]
    before = merge_segments(names(windows), windows, rule)
    after = merge_segments(names(windows), moved, rule)
    assert [(s.label, s.score) for s in after] == [(s.label, s.score) for s in before]
    assert [s.start_s - later_s for s in after] == pytest.approx([s.start_s for s in before])
    assert [s.end_s - later_s for s in after] == pytest.approx([s.end_s for s in before])


def test_a_segment_is_given_as_soon_as_it_has_ended() -> None:
    merger = SegmentMerger(["a", "b"], Hysteresis())
    given_so = [merger.add(*window) for window in windows_of([0.9, 0.1], [0.1, 0.9], [0.1, 0.1])]
    assert [[s.label for s in ended] for ended in given_so] == [[], ["a"], ["b"]]
    assert merger.finish() == []


def test_scores_of_a_window() -> None:
    predictions = [Prediction("b", 0.7, 1, 0.1, 1, 0.4), Prediction("c", 0.3, 0, 0, 2, 0.1)]
    softmax = window_scores(4, predictions, None, exclusive=True)
    with_none = window_scores(4, predictions, 0.5, exclusive=True)
    sigmoid = window_scores(4, predictions, 0.5, exclusive=False)
    assert softmax.tolist() == [0, 0.7, 0.3, 0]
    assert with_none.tolist() == [0, 0.4, 0.1, 0]
    assert sigmoid.tolist() == [0, 0.5, 0.3, 0]


def segments_of(
    logits: list[list[float]], top_k: int, scores: Literal["softmax", "sigmoid"]
) -> Any:
    """Rank windows a second apart, each with its row of logits."""
    names, rows = [f"label {k}" for k in range(len(logits[0]))], np.array(logits, np.float32)
    question = Question(labels=tuple(names), top_k=top_k, scores=scores)
    asked, manifest = TimelineQuestion(1, 1, question), open_bundle(DEMO_BUNDLE).manifest
    ranker = WindowRanker(names, rows, None, None, asked, manifest, 0, 0)
    times = tuple(
        WindowTimes(start_s=float(i), end_s=i + 1.0, times_s=(float(i),)) for i in range(len(rows))
    )
    part = DecodedWindows(np.zeros((len(rows), 1, 1, 1, 3), np.uint8), times)
    ranked = ranker.rank(part, rows, None)
    assert {len(line.predictions) for line, _ in ranked} == {top_k}
    rule = Hysteresis(exclusive=ranker.exclusive)
    windows = [(line.start_s, line.end_s, scores) for line, scores in ranked]
    return merge_segments(names, windows, rule)


def test_segments_do_not_depend_on_how_many_labels_are_asked_for() -> None:
    true = [[3.0] * 7, [3.0 - k / 10 for k in range(7)]]
    found = segments_of(true, 7, "sigmoid")
    assert spans(found) == [(f"label {k}", 0, 2) for k in range(7)]
    assert segments_of(true, 1, "sigmoid") == found
    wavering = [np.log(row).tolist() for row in ([0.6, 0.3, 0.1], [0.4, 0.45, 0.15])]
    found = segments_of(wavering, 2, "softmax")
    assert spans(found) == [("label 0", 0, 2)]
    assert segments_of(wavering, 1, "softmax") == found
