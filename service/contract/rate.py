"""How often somebody may ask, as operators write it."""

from __future__ import annotations

import limits

Rate = limits.RateLimitItem


def parse_rate(text: str) -> Rate:
    """Read a rate such as 60/minute or 5 per 2 seconds; ValueError says how it is written."""
    try:
        return limits.parse(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no rate; write it like 60/minute") from None
