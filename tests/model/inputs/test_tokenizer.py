"""The tokenizer gives open_clip's ids for every text, and says what it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs import LabelTooLong, Tokenizer

CLIP_START, CLIP_END = 49406, 49407
HOSTILE = [
    "",
    "   \t\n",
    "x" * 10_000,
    "ab " * 3_000,
    "İstanbul'da ıslık",
    "ＦＵＬＬ width",
    "ΑΣ ΣΊΣΥΦΟΣ ςσ",
    "\u200bzero\u200dwidth\ufeff",
    "👩‍👩‍👧‍👦 family 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🤷🏽‍♀️",
    "مرحبا بالعالم ١٢٣",
    "שָׁלוֹם עולם",
    "&lt;b&gt; &amp;amp;lt; &#x1F600; &nbsp;&notanentity;",
    "<start_of_text>",
    "a<end_of_text>b <END_OF_TEXT>",
    "<ſtart_of_text> 'ſ don'ſ \u212a",
    "<|startoftext|><|endoftext|>",
    "\x00\x01\x1f\x7f\x85\u2028\u2029",
    "it’s “quoted” — dash… ½ ① ² ﬁ ǆ",
    "don't I'll we've they're I'm he'd IT'S",
    "日本語テキスト 한국어 ไทย हिन्दी",
    "a" + "\u0301" * 500,
    "ß ẞ ŉ \u0345 \ud7ff\ue000\U0010ffff",
    "1234567890 a1b2 3.14 1,000",
    "schÃ¶n mojibake âœ”",
    "\ud83d\ude00 \ud800",
]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return Tokenizer.clip()


@pytest.fixture(scope="module")
def theirs() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@pytest.fixture(scope="module")
def phrases() -> tuple[str, ...]:
    """Action names in the style of the public label lists: names, and verbs with things."""
    text = Path(__file__).with_name("phrases.txt").read_text(encoding="utf-8")
    names, things, verbs = (block.splitlines() for block in text.split("\n\n"))
    return (*names, *things, *verbs, *(f"{v} {t}" for v in verbs for t in things[::7]))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    row: list[int] = tokenizer.encode([text], context_length=1_000_000)[0].tolist()
    return row


def open_clip_ids(theirs: Any, text: str) -> list[int]:
    return [CLIP_START, *theirs.encode(text), CLIP_END]


def test_labels_equal_open_clip(ours: Tokenizer, theirs: Any, phrases: tuple[str, ...]) -> None:
    assert len(phrases) > 500
    for template in ("{}", "a video of a person {}.", "Human action of {}, on TV!"):
        texts = [template.format(phrase) for phrase in phrases]
        expected = theirs(texts).numpy()
        found = ours.encode(texts)
        length = found.shape[1]
        assert np.array_equal(found, expected[:, :length])
        assert not expected[:, length:].any()


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:20]))
def test_hostile_text_equals_open_clip(text: str, ours: Tokenizer, theirs: Any) -> None:
    assert ids(ours, text) == open_clip_ids(theirs, text)


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_equals_open_clip(text: str, ours: Tokenizer, theirs: Any) -> None:
    assert ids(ours, text) == open_clip_ids(theirs, text)


# Plain ASCII is not looked at for mistakes in the encoding: with nothing else in a text, there are
# none to find.
@settings(max_examples=400, deadline=None)
@given(text=st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60))
def test_plain_ascii_equals_open_clip(text: str, ours: Tokenizer, theirs: Any) -> None:
    assert ids(ours, text) == open_clip_ids(theirs, text)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(
        alphabet=st.sampled_from(list("aAsSſtTdDlLmM'’ 0१½éẞİ<>_|&;#\u0301\u200d🎬")), max_size=40
    )
)
def test_awkward_letters_equal_open_clip(text: str, ours: Tokenizer, theirs: Any) -> None:
    assert ids(ours, text) == open_clip_ids(theirs, text)


def test_rows_are_as_long_as_the_longest_text_and_padded(ours: Tokenizer) -> None:
    rows = ours.encode(["yoga", "playing the harp"], pad_id=7)
    assert rows.dtype == np.int64
    assert rows.shape == (2, 5)
    assert rows[0, 3:].tolist() == [7, 7]
    assert rows[:, 0].tolist() == [CLIP_START] * 2
    assert (rows == CLIP_END).sum(axis=1).tolist() == [1, 1]


def test_no_texts_give_no_rows(ours: Tokenizer) -> None:
    assert ours.encode([]).shape == (0, 0)


def test_text_that_just_fits_passes_and_the_next_is_refused_by_name(ours: Tokenizer) -> None:
    assert ours.encode(["dog " * 75]).shape == (1, 77)
    with pytest.raises(LabelTooLong, match=r"'dog dog.*78 tokens.*limit is 77"):
        ours.encode(["fine", "dog " * 76])


def test_truncated_vocabulary_is_small_and_valid(phrases: tuple[str, ...]) -> None:
    small = Tokenizer.truncated(merges=500)
    assert small.vocab_size == 512 + 500 + 2
    assert (small.start_id, small.end_id) == (1012, 1013)
    rows = small.encode(phrases[:200])
    assert rows.max() == small.end_id
    assert rows.argmax(axis=1).tolist() == [(row != 0).sum() - 1 for row in rows]


def test_truncated_keeps_the_first_merges(ours: Tokenizer) -> None:
    assert Tokenizer.truncated(merges=48894).hash == ours.hash
    with pytest.raises(ValueError, match="merges must be between 0 and 48894"):
        Tokenizer.truncated(merges=50_000)


def test_file_gives_the_same_tokenizer(
    tmp_path: Path, ours: Tokenizer, phrases: tuple[str, ...]
) -> None:
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert again.hash == ours.hash
    assert np.array_equal(again.encode(phrases), ours.encode(phrases))


def test_file_works_in_the_tokenizers_library_for_everyday_text(
    tmp_path: Path, ours: Tokenizer, phrases: tuple[str, ...]
) -> None:
    ours.save(tmp_path / "tokenizer.json")
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for phrase in phrases:
        if phrase.isascii():
            assert library.encode(phrase).ids == ids(ours, phrase)


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer file"):
        Tokenizer.from_file(file)


def test_file_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(file))
    with pytest.raises(ValueError, match="start_of_text"):
        Tokenizer.from_file(file)


def test_long_words_are_not_kept_and_are_refused_before_they_are_merged(
    ours: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[str] = []
    merge = Tokenizer._merge

    def noted(self: Tokenizer, word: str) -> tuple[int, ...]:
        merged.append(word)
        return merge(self, word)

    monkeypatch.setattr(Tokenizer, "_merge", noted)
    fresh = Tokenizer(ours._core)
    hangul = "\ud55c" * 20  # sixty bytes
    for word in ("dog", "dog", hangul, hangul):
        fresh.encode([word], context_length=400)
    assert merged == ["dog", hangul, hangul]
    assert fresh._kept_ids.cache_info().currsize == 1
    with pytest.raises(LabelTooLong, match="at least"):
        fresh.encode(["x" * 100_000])
    with pytest.raises(LabelTooLong, match="has at least 92 tokens"):
        fresh.encode(["q " * 90])
    assert len(merged) == 3
