"""Records of labels and clips: exact, under their own key and secret, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.cache.redis.records import BadRecord, ClipForm, Records, Verdict
from tests.service.redis.encoded_clips import FORM, encoded, same

RECORDS = Records()


def opened(unpack: Callable[..., Any], *arguments: Any) -> tuple[Any, Verdict]:
    try:
        return unpack(*arguments), Verdict.GOOD
    except BadRecord as bad:
        return None, bad.verdict


# --- clips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 10])
def test_a_record_holds_the_clip_to_the_last_bit(views: int) -> None:
    clip = encoded(views=views)
    found, verdict = opened(
        RECORDS.unpack_clip, b"key", RECORDS.pack_clip(b"key", clip, FORM), FORM
    )
    assert verdict == "good"
    assert same(found, clip)


def test_features_without_patches_are_kept_too() -> None:
    form = ClipForm({"video": (6,), "context": (0, 6)}, frames_per_view=4)
    clip = encoded(form)
    assert same(
        opened(RECORDS.unpack_clip, b"key", RECORDS.pack_clip(b"key", clip, form), form)[0], clip
    )


def test_every_changed_bit_is_noticed() -> None:
    record = RECORDS.pack_clip(b"key", encoded(), FORM)
    for place in range(8 * len(record)):
        changed = bytearray(record)
        changed[place // 8] ^= 1 << place % 8
        found, verdict = opened(RECORDS.unpack_clip, b"key", bytes(changed), FORM)
        assert found is None
        assert verdict == ("other_version" if place // 8 == 3 else "corrupt")


@pytest.mark.parametrize("garbage", [b"", b"xcc", b"rubbish", b"\x01" * 4096, bytes(100)])
def test_what_is_no_record_is_refused(garbage: bytes) -> None:
    assert opened(RECORDS.unpack_clip, b"key", garbage, FORM) == (None, "corrupt")


def test_a_record_counts_under_its_own_key_alone() -> None:
    record = RECORDS.pack_clip(b"key", encoded(), FORM)
    for key, changed in ((b"other", record), (b"key", record + b"\0"), (b"key", record[:-1])):
        assert opened(RECORDS.unpack_clip, key, changed, FORM) == (None, "corrupt")


@pytest.mark.parametrize(
    "other",
    [
        ClipForm({"video": (6,), "context": (2, 4)}, 4),
        ClipForm({"video": (6,)}, 4),
        ClipForm({"video": (6,), "context": (2, 3)}, 8),
        ClipForm({"video": (6,), "context": (2, 3)}, 3),
        ClipForm({"video": (-1,), "context": (2, 3)}, 4),
    ],
)
def test_a_clip_of_another_form_is_neither_read_nor_written(other: ClipForm) -> None:
    assert opened(
        RECORDS.unpack_clip, b"key", RECORDS.pack_clip(b"key", encoded(), FORM), other
    ) == (None, "corrupt")
    with pytest.raises(ValueError, match="look like"):
        RECORDS.pack_clip(b"key", encoded(), other)


def test_numbers_that_are_none_are_not_stored() -> None:
    clip = encoded()
    clip.features["context"][1, 0, 2] = np.inf
    with pytest.raises(ValueError, match="look like"):
        RECORDS.pack_clip(b"key", clip, FORM)


# --- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 64, 768])
def test_a_record_holds_the_vector_to_the_last_bit(dim: int) -> None:
    vector = np.random.default_rng(1).standard_normal(dim).astype(np.float32) * 1e-30
    vector[0] = np.nextafter(np.float32(1), np.float32(2))
    record = RECORDS.pack_vector(b"key", vector)
    found, verdict = opened(RECORDS.unpack_vector, b"key", record, dim)
    assert verdict == "good"
    assert found is not None
    assert found.tobytes() == vector.tobytes()


def test_every_changed_bit_of_a_label_is_noticed() -> None:
    vector = np.arange(6, dtype=np.float32)
    record = RECORDS.pack_vector(b"key", vector)
    for place in range(8 * len(record)):
        changed = bytearray(record)
        changed[place // 8] ^= 1 << place % 8
        found, verdict = opened(RECORDS.unpack_vector, b"key", bytes(changed), 6)
        assert found is None
        assert verdict == ("other_version" if place // 8 == 3 else "corrupt")


@pytest.mark.parametrize(
    "garbage", [b"", b"xcl", b"xcl\x02", b"rubbish", b"\x01" * 4096, bytes(100)]
)
def test_what_is_no_label_is_refused(garbage: bytes) -> None:
    assert opened(RECORDS.unpack_vector, b"key", garbage, 6)[0] is None


def test_a_record_counts_under_its_own_key_and_length_alone() -> None:
    record = RECORDS.pack_vector(b"key", np.arange(6, dtype=np.float32))
    assert opened(RECORDS.unpack_vector, b"another", record, 6) == (None, "corrupt")
    assert opened(RECORDS.unpack_vector, b"key", record, 7) == (None, "corrupt")
    assert opened(RECORDS.unpack_vector, b"key", record + b"\0", 6) == (None, "corrupt")
    assert opened(RECORDS.unpack_vector, b"key", record[:-1], 6) == (None, "corrupt")


# --- secrets ------------------------------------------------------------------------------------


def test_a_record_counts_under_its_own_secret_alone() -> None:
    signed, other = Records(b"a secret of ours"), Records(b"another one" * 20)
    clip, vector = encoded(), np.arange(6, dtype=np.float32)
    for record in (RECORDS.pack_clip(b"key", clip, FORM), other.pack_clip(b"key", clip, FORM)):
        assert opened(signed.unpack_clip, b"key", record, FORM)[1] == Verdict.CORRUPT
    for record in (RECORDS.pack_vector(b"key", vector), other.pack_vector(b"key", vector)):
        assert opened(signed.unpack_vector, b"key", record, 6)[1] == Verdict.CORRUPT
    assert same(signed.unpack_clip(b"key", signed.pack_clip(b"key", clip, FORM), FORM), clip)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_read(number: float) -> None:
    vector = np.array([1, number, 2], np.float32)
    record = RECORDS.pack_vector(b"key", vector)
    assert opened(RECORDS.unpack_vector, b"key", record, 3) == (None, Verdict.CORRUPT)


def test_a_record_of_the_one_is_none_of_the_other() -> None:
    form = ClipForm({"vector": (6,)}, 4)
    clip = RECORDS.pack_clip(b"key", encoded(form), form)
    vector = RECORDS.pack_vector(b"key", np.zeros(6, np.float32))
    assert opened(RECORDS.unpack_vector, b"key", clip, 6)[1] == Verdict.CORRUPT
    assert opened(RECORDS.unpack_clip, b"key", vector, form)[1] == Verdict.CORRUPT
