"""Accuracy, confusion, and parts put together."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.frames.reading import Broken
from model.evaluate.scores import Scores, joined_scores


def scores(rows: list[list[float]], truth: list[int], indices: list[int] | None = None) -> Scores:
    return Scores(
        np.array(indices if indices is not None else range(len(truth)), dtype=np.int64),
        np.array(rows, dtype=np.float32),
        np.array(truth, dtype=np.int64),
    )


EXAMPLE = scores([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.7, 0.2, 0.1]], [0, 1, 2, 2])


def test_top_k() -> None:
    assert [EXAMPLE.top(k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_top_5_of_fewer_labels_is_everything() -> None:
    assert EXAMPLE.top(5) == 1.0


def test_equal_scores_are_ranked_in_the_order_of_labels() -> None:
    equal = scores([[0.5, 0.5], [0.5, 0.5]], [0, 1])
    assert equal.top(1) == 0.5
    assert equal.predicted.tolist() == [0, 0]


def test_confusion_counts_every_clip_once() -> None:
    assert EXAMPLE.confusion().tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert EXAMPLE.confusion().sum() == 4


def test_most_confused_pairs_first_and_only_mistakes() -> None:
    rows = [[0.9, 0.1, 0]] * 3 + [[0, 0.1, 0.9]] * 2 + [[0, 0.9, 0.1]]
    found = scores(rows, [1, 1, 1, 1, 0, 1])
    assert found.most_confused() == [(1, 0, 3), (0, 2, 1), (1, 2, 1)]
    assert found.most_confused(1) == [(1, 0, 3)]


def test_parts_are_joined_in_the_order_of_the_list() -> None:
    one = scores([[1.0, 0], [0, 1.0]], [0, 1], [2, 0])
    two = Scores(
        np.array([1]), np.array([[0.5, 0.5]], np.float32), np.array([1]), (Broken("x", "missing"),)
    )
    joined = joined_scores([one, two])
    assert joined.indices.tolist() == [0, 1, 2]
    assert joined.truth.tolist() == [1, 1, 0]
    assert joined.broken == (Broken("x", "missing"),)


def test_a_clip_counted_twice_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="twice"):
        joined_scores([EXAMPLE, EXAMPLE])


def test_of_nothing_there_is_no_accuracy() -> None:
    assert np.isnan(scores([], []).top(1))
