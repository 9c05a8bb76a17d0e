"""Texts in batches of like length."""

from __future__ import annotations

import numpy as np
import pytest

from model.inputs import Tokenizer
from model.inputs.text.lengths import batches_by_length, encode_by_length, token_lengths


def test_lengths_count_up_to_the_end_token() -> None:
    ids = Tokenizer.truncated(50).encode(["a", "a b c", ""])
    assert token_lengths(ids).tolist() == [3, 5, 2]


def test_every_row_is_run_once_the_shortest_first_within_the_limit() -> None:
    lengths = np.array([5, 2, 9, 2, 40, 3])
    batches = [rows.tolist() for rows in batches_by_length(lengths, 10)]
    assert batches == [[1, 3, 5], [0], [2], [4]]  # one row may be more than the limit


def test_vectors_stand_where_their_texts_do() -> None:
    ids = Tokenizer.truncated(50).encode(["a b c d", "a", "a b", "a b c"])
    widths: list[int] = []

    def encode(part: np.ndarray) -> np.ndarray:
        widths.append(part.shape[1])
        return token_lengths(part)[:, None].astype(np.float32)

    assert encode_by_length(encode, ids, most=8)[:, 0].tolist() == [6, 3, 4, 5]
    assert widths == [4, 5, 6]
    with pytest.raises(ValueError, match="no texts"):
        encode_by_length(encode, ids[:0])
