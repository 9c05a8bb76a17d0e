"""Labels and prompt templates: what a client wrote, cleaned or refused."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

PLACE = "{}"


@dataclass(frozen=True)
class Prompt:
    """The text given to the network for one label."""

    label: str
    text: str


def clean_label(label: str) -> str:
    """Strip, collapse white space, drop control characters; refuse what is empty after that."""
    kept = "".join(" " if unicodedata.category(c) == "Cc" else c for c in label)
    cleaned = " ".join(kept.split())
    if not cleaned:
        raise ValueError("a label is empty; write a word or phrase")
    return cleaned


def label_key(label: str) -> str:
    """Two labels with one key mean the same to the network."""
    return unicodedata.normalize("NFKC", clean_label(label)).casefold()


def check_template(template: str) -> str:
    """A template holds exactly one `{}` and no other brace."""
    if template.count(PLACE) != 1 or any(c in template.replace(PLACE, "", 1) for c in "{}"):
        raise ValueError(f"template {template!r} must hold exactly one {{}} and no other brace")
    return " ".join(template.split())


def fill_template(template: str, label: str) -> Prompt:
    """Put a label in the place of `{}`."""
    return Prompt(label, check_template(template).replace(PLACE, label))
