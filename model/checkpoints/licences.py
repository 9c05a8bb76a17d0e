"""The licence of weights, as their owners state it: what is known by name or said beside them."""

from __future__ import annotations

import re
from pathlib import Path

# The first that matches the source.
KNOWN = (
    (r"microsoft/xclip-|xclip-base-patch|xclip-large-patch", "MIT"),
    (r"(hf-hub:timm|open_clip:.*)/?PE-Core-", "Apache-2.0"),
    (r"(hf-hub:timm|open_clip:.*)/?ViT-.*-SigLIP", "Apache-2.0"),
    (r"(hf-hub:|open_clip:).*MobileCLIP2-", "research only (Apple)"),
    (r"open_clip:coca_ViT-.*/.*laion2b_s13b_b90k", "MIT"),
)
CARD = "README.md"
STATED = re.compile(r"^license:\s*[\"']?([\w .+-]+?)[\"']?\s*$", re.MULTILINE)


def licence_of(source: str) -> str | None:
    """Return the licence of a published source, or what the card in its folder states."""
    for pattern, licence in KNOWN:
        if re.search(pattern, source, re.IGNORECASE):
            return licence
    card = Path(source.removeprefix("local-dir:")) / CARD
    return _stated(card) if card.is_file() else None


def _stated(card: Path) -> str | None:
    """Read `license` in the block between two lines of dashes that a card begins with."""
    with card.open("rb") as stream:
        text = stream.read(10_000).decode(errors="replace")
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    stated = STATED.search(head)
    return stated[1] if stated else None
