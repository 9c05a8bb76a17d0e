"""How often somebody may ask, as operators write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import limits

SEPARATOR = re.compile(r"[,;|]")


@dataclass(frozen=True)
class Rate:
    """One or more limits, all of which hold, such as 60 a minute and 2 a second."""

    parts: tuple[limits.RateLimitItem, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.parts))

    def in_milliseconds(self) -> Rate:
        """Return this rate of seconds as one of milliseconds, counted apart from any other."""
        return Rate(tuple(type(p)(1000 * p.amount, p.multiples, "COST") for p in self.parts))


def parse_rate(text: str) -> Rate:
    """Read a rate such as 60/minute, 5 per 2 seconds, or 60/minute;2/second.

    Raises:
        ValueError: A part of it is no rate; the message says how one is written.
    """
    try:
        return Rate(tuple(limits.parse(part.strip()) for part in SEPARATOR.split(text)))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no rate; write it like 60/minute") from None
