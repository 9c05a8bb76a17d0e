"""A bounded queue of entries that are written in the background, in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

ENTRIES_PER_WRITE = 256
MAX_WAITING_BYTES = 32 << 20
PAUSE_S = 5.0
STOP_TIMEOUT_S = 1.0

Write = Callable[[Mapping[bytes, bytes]], Awaitable[str]]


class WriteBehind:
    """Hands batches to `write`, one after another. `write` never raises; it returns why a batch
    was refused (a replica, memory full), which pauses writing for PAUSE_S seconds.
    """

    def __init__(self, write: Write) -> None:
        self.refusal = ""
        self._write = write
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
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

    def add(self, entries: Mapping[bytes, bytes]) -> int:
        """Queue the entries; returns how many had no room."""
        dropped = 0
        for key, value in entries.items():
            if key in self._waiting:
                continue
            if self._waiting_bytes + len(value) > MAX_WAITING_BYTES:
                dropped += 1
                continue
            self._waiting[key] = value
            self._waiting_bytes += len(value)
        self._wake.set()
        return dropped

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._write_batch()

    async def _write_batch(self) -> None:
        keys = list(self._waiting)[:ENTRIES_PER_WRITE]
        batch = {key: self._waiting.pop(key) for key in keys}
        self._waiting_bytes -= sum(map(len, batch.values()))
        if self.pausing:
            return
        refusal = await self._write(batch)
        if refusal:
            self.refusal, self._paused_until = refusal, time.monotonic() + PAUSE_S
