"""What turns cost: seconds of a decode worker or a thread, charged to whose turn it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

# Told, from any thread, which client has used up how many seconds.
Charge = Callable[[str, float], None]


def free(client: str, seconds: float) -> None:
    """Charge nobody."""


class Costs:
    """Add up seconds by client until somebody takes them; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def charge(self, client: str, seconds: float) -> None:
        """Note seconds of a client; the server's own work, whose client is "", costs nobody."""
        if client:
            with self._lock:
                self._seconds[client] = self._seconds.get(client, 0.0) + seconds

    def take(self, client: str) -> float:
        """Return the seconds of a client that nobody has taken yet."""
        with self._lock:
            return self._seconds.pop(client, 0.0)

    def take_all(self) -> Mapping[str, float]:
        """Return the seconds of every client that nobody has taken yet."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken
