"""Who finds what was computed for whom: everybody the same, or each client his own."""

from __future__ import annotations

from dataclasses import dataclass

SHARED = ""  # the space of what everybody finds; no client has that name


@dataclass(frozen=True)
class Spaces:
    """The spaces of the caches. Where they are `private`, a client finds what he had made alone,
    and what the server made for all (its start-up list).
    """

    private: bool = False

    def of(self, client: str) -> str:
        """Return the space of what is made for a client."""
        return client if self.private else SHARED


ONE_SPACE = Spaces()
