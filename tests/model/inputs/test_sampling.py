"""Index arithmetic: the published vectors, and what holds for every clip length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.inputs import sample_indices

LENGTHS = st.integers(1, 100_000)
SIZES = st.integers(1, 64)
VIEWS = st.integers(1, 8)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (300, [18, 56, 93, 131, 168, 206, 243, 281]),
        (100, [6, 18, 31, 43, 56, 68, 81, 93]),
        (5, [0, 0, 1, 2, 2, 3, 4, 4]),
        (1, [0] * 8),
        (8, list(range(8))),
    ],
)
def test_published_test_vectors(frames: int, expected: list[int]) -> None:
    assert sample_indices(frames, 8).tolist() == [expected]


@given(LENGTHS, SIZES)
def test_single_view_is_the_published_rule(frames: int, size: int) -> None:
    published = [(2 * i * frames + frames) // (2 * size) for i in range(size)]
    assert sample_indices(frames, size).tolist() == [published]


@given(LENGTHS, SIZES, VIEWS)
def test_views_are_ordered_inside_the_clip_and_evenly_shifted(
    frames: int, size: int, views: int
) -> None:
    indices = sample_indices(frames, size, views=views)
    assert indices.shape == (views, size)
    assert indices.min() >= 0
    assert indices.max() < frames
    assert (np.diff(indices, axis=1) >= 0).all()
    assert (np.diff(indices, axis=0) >= 0).all()
    if views % 2:
        assert indices[views // 2].tolist() == sample_indices(frames, size)[0].tolist()


def test_views_look_at_different_frames() -> None:
    assert sample_indices(240, 4, views=3).tolist() == [
        [10, 70, 130, 190],
        [30, 90, 150, 210],
        [50, 110, 170, 230],
    ]


def test_training_draws_one_frame_of_each_part() -> None:
    drawn = np.concatenate(
        [sample_indices(100, 8, rng=np.random.default_rng(seed)) for seed in range(200)]
    )
    parts = drawn - 12 * np.arange(8)
    assert parts.min() == 0
    assert parts.max() == 11
    assert drawn.max() < 96, "the tail N - T * (N // T) is never drawn"


def test_training_with_too_few_frames_rounds_half_to_even_and_wraps() -> None:
    rng = np.random.default_rng(0)
    assert sample_indices(3, 8, rng=rng).tolist() == [[0, 0, 1, 1, 2, 2, 2, 0]]


def test_training_repeats_with_the_same_seed_and_differs_between_views() -> None:
    first = sample_indices(1000, 8, views=2, rng=np.random.default_rng(7))
    again = sample_indices(1000, 8, views=2, rng=np.random.default_rng(7))
    assert first.tolist() == again.tolist()
    assert first[0].tolist() != first[1].tolist()


@pytest.mark.parametrize("arguments", [(0, 8, 1), (8, 0, 1), (8, 8, 0)])
def test_nothing_to_sample_is_refused(arguments: tuple[int, int, int]) -> None:
    frames, size, views = arguments
    with pytest.raises(ValueError, match="must be positive"):
        sample_indices(frames, size, views=views)
