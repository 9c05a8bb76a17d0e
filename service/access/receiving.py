"""A body that is being received: how fast it comes, and how its place can be taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from service.contract.errors import ApiError

Result = TypeVar("Result")


class Receiving:
    """One body of a client, from the moment that it has a place."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.gave_way = False
        self._received = 0
        self._began = time.monotonic()
        self._reading: asyncio.Timeout | None = None

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    @property
    def pace(self) -> float:
        """Bytes a second so far."""
        return self._received / max(self.age_s, 1e-6)

    @property
    def still_comes(self) -> bool:
        """Whether the body is being read, and may be given up."""
        return self._reading is not None and not self.gave_way

    async def counted(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass a body on, and note how much of it has come."""
        async for chunk in stream:
            self._received += len(chunk)
            yield chunk

    async def read(self, reading: Awaitable[Result]) -> Result:
        """Return what is read of the body; ApiError `queue_full` where it gives way meanwhile."""
        try:
            async with asyncio.timeout(None) as self._reading:
                return await reading
        except TimeoutError:
            if not self.gave_way:
                raise
            raise ApiError(
                "queue_full",
                "every place was taken, and this upload, the slowest, has given way; send it again",
                retry_after_s=5,
            ) from None
        finally:
            self._reading = None

    def give_way(self) -> None:
        """End the reading of a body that still comes."""
        assert self._reading is not None
        self.gave_way = True
        self._reading.reschedule(asyncio.get_running_loop().time())
