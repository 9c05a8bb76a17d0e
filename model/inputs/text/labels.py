"""Labels and prompt templates: what a client wrote, cleaned or refused.

Cleaned: white space around and inside (line breaks and tabs too) becomes single spaces; control
and invisible format characters go, but for the joiners that words and emoji are made of.
Refused: what is empty after that, and what is no Unicode text (half of a surrogate pair).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from model.inputs.text.tokenizer import clean_text

PLACE = "{}"
SHOWN_OF_A_REFUSED = 60
# Zero-width non-joiner and joiner; tag characters spell regional flags.
KEPT_FORMATS = frozenset("\u200c\u200d") | {chr(c) for c in range(0xE0020, 0xE0080)}


@dataclass(frozen=True)
class Prompt:
    """The text that is given to the network for one label."""

    label: str
    text: str


def clean_label(label: str) -> str:
    """Return the label as it is shown and used. Raises ValueError if nothing of it is left."""
    cleaned = _clean(label, "label")
    if not cleaned:
        raise ValueError("a label is empty; write a word or a phrase")
    return cleaned


def label_key(label: str) -> str:
    """Return the key of a label: those that share it are the same text to the network."""
    return clean_text(clean_label(label))


def check_template(template: str) -> str:
    """Return the template, cleaned as labels are. It holds exactly one `{}` and no other brace."""
    cleaned = _clean(template, "template")
    rest = cleaned.replace(PLACE, "", 1)
    if PLACE not in cleaned or "{" in rest or "}" in rest:
        raise ValueError(
            f"template {_shown(template)} must hold exactly one {PLACE}, where the label goes, "
            "and no other brace"
        )
    return cleaned


def fill_template(template: str, label: str) -> Prompt:
    """Put a label where the template says; both are cleaned."""
    cleaned = clean_label(label)
    return Prompt(cleaned, check_template(template).replace(PLACE, cleaned))


def label_prompts(labels: Sequence[str], templates: Sequence[str] = ()) -> list[str]:
    """Give the texts that the network reads for K labels; a label is compared with the mean vector
    of its texts.

    Args:
        labels: The labels as a person wrote them.
        templates: Prompt templates with one `{}` each. Without any, labels are read as they are.

    Returns:
        max(len(templates), 1) texts for each label, label by label.

    Raises:
        ValueError: A label is empty, or a template does not hold exactly one `{}`.
    """
    cleaned = [clean_label(label) for label in labels]
    if not templates:
        return cleaned
    halves = [check_template(template).split(PLACE, 1) for template in templates]
    return [before + label + after for label in cleaned for before, after in halves]


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Clean the templates of a network; the bare `{}` alone is the same as none.

    Raises ValueError for a template that does not hold exactly one `{}`.
    """
    checked = tuple(map(check_template, templates))
    return () if checked == (PLACE,) else checked


def _clean(text: str, what: str) -> str:
    if text.isascii() and text.isprintable():  # nothing to drop or to refuse
        return " ".join(text.split())
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            raise ValueError(f"{what} {_shown(text)} is not valid Unicode text")
        if category == "Cc" and not character.isspace():
            continue
        if category == "Cf" and character not in KEPT_FORMATS:
            continue
        kept.append(character)
    return " ".join("".join(kept).split())


def _shown(text: str) -> str:
    return ascii(text[:SHOWN_OF_A_REFUSED])
