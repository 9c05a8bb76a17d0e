"""Text to token ids on the `tokenizers` library, without torch.

For CLIP's byte pairs text is repaired (ftfy), HTML-unescaped twice, its white space collapsed,
lower-cased and split into words exactly as in CLIP; `tokenizers` then merges the bytes of each
word. Other vocabularies are run whole by the library, as their `tokenizer.json` says.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import importlib.util
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import regex
import tokenizers
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from model.inputs.spec import CleanRule, TokenizerSpec

START, END = "<start_of_text>", "<end_of_text>"
END_OF_WORD = "</w>"
CLIP_MERGES = 49152 - 256 - 2
# The split is CLIP's own expression run by the same engine: the `tokenizers` engine knows another
# Unicode version and folds case differently.
WORDS = regex.compile(
    START + "|" + END + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


# Longer words are merged anew each time: nobody's labels repeat them, and words to fill the memory
# with are easily made up.
LONGEST_KEPT_WORD_BYTES = 40


class LabelTooLong(ValueError):
    """A text that needs more tokens than the network reads."""


class Tokenizer:
    """Text to token ids. Immutable; ids are those of the vocabulary it was built from."""

    def __init__(self, core: tokenizers.Tokenizer, spec: TokenizerSpec | None = None) -> None:
        self._core, self.spec = core, spec or TokenizerSpec()
        vocabulary = core.get_vocab()
        self.vocab_size = len(vocabulary)
        if self.spec.kind == "tokenizer.json":
            # Rows are padded here, and what is too long is refused, never cut.
            core.no_padding()
            core.no_truncation()
            return
        missing = {START, END} - vocabulary.keys()
        if missing:
            raise ValueError(f"the vocabulary lacks {sorted(missing)}: this is no CLIP tokenizer")
        self.start_id: int = vocabulary[START]
        self.end_id: int = vocabulary[END]
        self._longest_token = max(map(len, vocabulary))
        self._kept_ids = lru_cache(maxsize=65536)(self._merge)

    @classmethod
    def clip(cls, spec: TokenizerSpec | None = None) -> Self:
        """Load CLIP's own vocabulary from the merges file of the installed open_clip package."""
        return cls(_build(_clip_merges()), spec)

    @classmethod
    def from_file(cls, path: str | Path, spec: TokenizerSpec | None = None) -> Self:
        """Read a `tokenizer.json`. Raises ValueError if it is none, or not of the kind."""
        text = Path(path).read_text(encoding="utf-8")
        try:
            core = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer file: {error}") from error
        return cls(core, spec)

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json`."""
        Path(path).write_text(self._core.to_str(), encoding="utf-8")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical `tokenizer.json`."""
        return hashlib.sha256(self._core.to_str().encode()).hexdigest()

    @classmethod
    def truncated(cls, merges: int) -> Self:
        """Return a small valid CLIP vocabulary of the first `merges` merges, ids renumbered."""
        if not 0 <= merges <= CLIP_MERGES:
            raise ValueError(f"merges must be between 0 and {CLIP_MERGES}, not {merges}")
        return cls(_build(_clip_merges()[:merges]))

    def encode(
        self, texts: Sequence[str], context_length: int = 77, pad_id: int = 0
    ) -> NDArray[np.int64]:
        """Turn K texts into token ids.

        Args:
            texts: Texts as a person wrote them; they are cleaned as the network's texts were.
            context_length: The most tokens of a text, with its start and end token.
            pad_id: Fills up the rows of shorter texts.

        Returns:
            int64 (K, L), L the tokens of the longest of these texts; with fixed padding, the
            context length.

        Raises:
            LabelTooLong: A text needs more than `context_length` tokens.
        """
        rows = [self._row(text, context_length) for text in texts]
        length = max((len(row) for row in rows), default=0)
        if self.spec.pad == "fixed":
            length = context_length
        ids = np.full((len(rows), length), pad_id, dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids

    def _row(self, text: str, context_length: int) -> list[int]:
        cleaned = CLEANERS[self.spec.clean](text)
        if self.spec.kind == "tokenizer.json":
            whole: list[int] = self._core.encode(cleaned).ids
            if len(whole) > context_length:
                raise _too_long(text, str(len(whole)), context_length)
            return whole
        words = WORDS.findall(cleaned)
        # Merging takes long for long words: what cannot fit is refused before.
        least = 2 + sum(-(-len(word) // self._longest_token) for word in words)
        if least > context_length:
            raise _too_long(text, f"at least {least}", context_length)
        row = [self.start_id, *(i for word in words for i in self._word_ids(word)), self.end_id]
        if len(row) > context_length:
            raise _too_long(text, str(len(row)), context_length)
        return row

    def _word_ids(self, word: str) -> tuple[int, ...]:
        is_kept = len(word) <= LONGEST_KEPT_WORD_BYTES and (
            word.isascii() or len(word.encode()) <= LONGEST_KEPT_WORD_BYTES
        )
        return self._kept_ids(word) if is_kept else self._merge(word)

    def _merge(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self.start_id if word == START else self.end_id,)
        letters = "".join(BYTE_LETTERS[b] for b in word.encode("utf-8"))
        return tuple(token.id for token in self._core.model.tokenize(letters))


def _too_long(text: str, tokens: str, context_length: int) -> LabelTooLong:
    return LabelTooLong(
        f"label {text[:60]!r} has {tokens} tokens, the limit is {context_length}; shorten it"
    )


def clean_text(text: str) -> str:
    """Clean as CLIP does: repair encoding mistakes, unescape HTML twice, collapse, lower."""
    return collapsed(text).lower()


def collapsed(text: str) -> str:
    """Repair encoding mistakes, unescape HTML twice, make white space single spaces."""
    # Plain ASCII holds neither mistakes nor, without an ampersand, HTML. Most labels are that, and
    # looking for what is not there would take ten times as long as all the rest.
    if "&" in text or not (text.isascii() and text.isprintable()):
        import ftfy  # here: a server is ready sooner without it

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def canonical(text: str) -> str:
    """Repair as above, then drop ASCII punctuation and lower the case, as SigLIP's texts were."""
    text = collapsed(text).replace("_", " ").translate(WITHOUT_PUNCTUATION)
    return " ".join(text.lower().split())


WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
CLEANERS: Mapping[CleanRule, Callable[[str], str]] = {
    "lower": clean_text,
    "whitespace": collapsed,
    "canonicalize": canonical,
}


def _byte_letters() -> dict[int, str]:
    """Return a printable letter for every byte, printable bytes first: the order gives the ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable}
    return letters | {b: chr(256 + i) for i, b in enumerate(others)}


BYTE_LETTERS = _byte_letters()


def _clip_merges() -> list[tuple[str, str]]:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "CLIP's merges are read from the open_clip package, which is not installed; "
            "run: pip install open_clip_torch"
        )
    file = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : CLIP_MERGES + 1]
    return [(first, second) for first, second in (line.split() for line in lines)]


def _build(merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    letters = list(BYTE_LETTERS.values())
    words = [*letters, *(x + END_OF_WORD for x in letters), *(a + b for a, b in merges), START, END]
    ids = {word: i for i, word in enumerate(words)}
    model = models.BPE(vocab=ids, merges=merges, end_of_word_suffix=END_OF_WORD, unk_token=END)
    core = tokenizers.Tokenizer(model)
    # `Tokenizer` calls the model alone. The rest makes the file useful to others that read it:
    # for everyday text it gives the same ids.
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS.pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    core.add_special_tokens([START, END])
    return core
