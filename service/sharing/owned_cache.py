"""A cache that clients share: nobody holds more than half, and who holds most gives way."""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

STALE_NOTES = 64  # of an owner's size, kept beside the true ones before all are written anew


@dataclass(frozen=True)
class _Entry(Generic[Value]):
    value: Value
    owner: str
    nbytes: int
    until: float


class OwnedCache(Generic[Key, Value]):
    """Values by key, each owned by the client who had it made; bounded in bytes, and in age.

    An owner has half of it at most. What does not fit any more is taken from the owner who holds
    most, what he used longest ago first. So of n owners, more than one, each keeps at least
    total / n, whatever the others put in.

    Args:
        max_bytes: Bound of all entries together.
        size: Bytes of an entry, by its key and value.
        ttl_s: Age at which entries are forgotten; None keeps them.
    """

    def __init__(
        self, max_bytes: int, size: Callable[[Key, Value], int], ttl_s: float | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._size = size
        self._ttl_s = float("inf") if ttl_s is None else ttl_s
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()  # the eldest first
        self._keys_of: dict[str, OrderedDict[Key, None]] = {}  # what was used longest ago first
        self._bytes_of: dict[str, int] = {}
        self._largest: list[tuple[int, str]] = []  # heap of (-bytes, owner), some of them outdated

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        self._forget_old()
        return key in self._entries

    def held_by(self, owner: str) -> int:
        """Return how many bytes an owner holds."""
        return self._bytes_of.get(owner, 0)

    def get(self, key: Key) -> Value | None:
        """Return a value, and note that it was used; None where it is not held."""
        self._forget_old()
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._keys_of[entry.owner].move_to_end(key)
        return entry.value

    def put(self, owner: str, key: Key, value: Value) -> None:
        """Hold a value; one that is larger than what one owner may hold is not held."""
        self._forget_old()
        self.drop(key)
        nbytes = self._size(key, value)
        most = self.max_bytes // 2
        if nbytes > most:
            return
        self._entries[key] = _Entry(value, owner, nbytes, time.monotonic() + self._ttl_s)
        self._keys_of.setdefault(owner, OrderedDict())[key] = None
        self._count(owner, nbytes)
        while self._bytes_of[owner] > most:
            self.drop(next(iter(self._keys_of[owner])))
        while self.nbytes > self.max_bytes:
            self.drop(next(iter(self._keys_of[self._largest_owner()])))

    def drop(self, key: Key) -> None:
        """Hold a value no longer, if it is held."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            del self._keys_of[entry.owner][key]
            self._count(entry.owner, -entry.nbytes)

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._entries and self._entries[key := next(iter(self._entries))].until <= now:
            self.drop(key)

    def _count(self, owner: str, nbytes: int) -> None:
        self.nbytes += nbytes
        held = self._bytes_of.get(owner, 0) + nbytes
        if self._keys_of[owner]:
            self._bytes_of[owner] = held
            heapq.heappush(self._largest, (-held, owner))
        else:
            del self._bytes_of[owner], self._keys_of[owner]
        if len(self._largest) > 2 * len(self._bytes_of) + STALE_NOTES:
            self._largest = [(-held, owner) for owner, held in self._bytes_of.items()]
            heapq.heapify(self._largest)

    def _largest_owner(self) -> str:
        while True:
            held, owner = self._largest[0]
            if self._bytes_of.get(owner) == -held:
                return owner
            heapq.heappop(self._largest)
