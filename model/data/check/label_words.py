"""Labels that do not read like text: names of folders and columns, codes, numbers.

The network has learned from captions: "brush hair" says more to it than "brush_hair".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

JOINED = re.compile(r"[_+]|%20")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
NUMBER_BEFORE = re.compile(r"^\d+[\W_]+")
CODE = re.compile(
    r"(?:[a-z]{0,3}[\W_]*\d+[a-z]?|(?:class|label|action|category)[\W_]*\w{1,3})", re.I
)


def not_words(labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that do not read like text, with what may be meant, or nothing."""
    said = {label: _as_words(label) for label in labels}
    return {label: words for label, words in said.items() if words != label}


def _as_words(label: str) -> str:
    """Return a label as words: itself where it is such, empty where it holds none."""
    if CODE.fullmatch(label):
        return ""
    if " " in label and not JOINED.search(label):
        return label
    parts = CAMEL.split(JOINED.sub(" ", NUMBER_BEFORE.sub("", label)))
    words = " ".join(" ".join(parts).split())
    return label if words == label else words.lower()
