"""A bounded queue of entries that are written in the background, in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from service.sharing.shares import Full, Shares

ENTRIES_PER_WRITE = 256
BYTES_PER_WRITE = 4 << 20  # reads of requests wait behind a write in Redis itself
MAX_WAITING_BYTES = 32 << 20  # half of it for one client
BYTES_BESIDE_VALUE = 400  # of an entry that waits: its key, its objects, its place
PAUSE_S = 5.0
STOP_TIMEOUT_S = 1.0


class Entry(NamedTuple):
    """A value to be written, the seconds that it is kept, and the client it was made for."""

    value: bytes
    ttl_s: int
    client: str = ""  # nobody: the server itself


Write = Callable[[Mapping[bytes, Entry]], Awaitable[str | None]]


class WriteBehind:
    """Hands batches to `write`, one after another. `write` never raises; it returns why a batch
    was refused (a replica, memory full), if it was, which pauses writing for PAUSE_S seconds.
    """

    def __init__(self, write: Write) -> None:
        self.refusal: str | None = None
        self._write = write
        self._waiting: dict[bytes, Entry] = {}
        self._room = Shares(MAX_WAITING_BYTES)
        self._wake = asyncio.Event()
        self._paused_until = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def pausing(self) -> bool:
        """Whether writes were refused a moment ago."""
        return time.monotonic() < self._paused_until

    def start(self) -> None:
        """Begin to write what comes."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits if that is quick, and end."""
        if self._task is None:
            return
        self._wake.set()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self._waiting and not self.pausing:
                    await self._write_batch()
        except TimeoutError:
            pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def add(self, entries: Mapping[bytes, Entry]) -> int:
        """Queue the entries; return how many had no room."""
        dropped = 0
        for key, entry in entries.items():
            if key in self._waiting:
                continue
            try:
                self._room.take(entry.client, _bytes_of(entry))
            except Full:
                dropped += 1
            else:
                self._waiting[key] = entry
        self._wake.set()
        return dropped

    def discard(self, key: bytes) -> None:
        """Do not write an entry that waits."""
        if (entry := self._waiting.pop(key, None)) is not None:
            self._room.give_back(entry.client, _bytes_of(entry))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._write_batch()

    async def _write_batch(self) -> None:
        batch = self._take()
        if self.pausing:
            return
        refusal = await self._write(batch)
        if refusal is not None:
            self.refusal, self._paused_until = refusal, time.monotonic() + PAUSE_S

    def _take(self) -> dict[bytes, Entry]:
        """Take the next entries off the queue, in order: one at least, then up to the bounds."""
        batch: dict[bytes, Entry] = {}
        size = 0
        for key, entry in self._waiting.items():
            size += len(entry.value)
            if batch and (size > BYTES_PER_WRITE or len(batch) == ENTRIES_PER_WRITE):
                break
            batch[key] = entry
        for key in batch:
            self.discard(key)
        return batch


def _bytes_of(entry: Entry) -> int:
    return BYTES_BESIDE_VALUE + len(entry.value)
