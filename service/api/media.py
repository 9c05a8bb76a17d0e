"""Which of several forms of an answer a client wants: `Accept` (RFC 9110)."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the media type that is wanted most: the first one offered where nothing else is."""
    weights = dict(_read(part) for part in accept.lower().split(","))

    def weight(media: str) -> float:
        ranges = (media, f"{media.split('/')[0]}/*", "*/*")
        return next((weights[name] for name in ranges if name in weights), 0.0)

    return max(offered, key=weight)  # the first of several that are wanted as much


def _read(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0
