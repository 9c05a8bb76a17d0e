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
        self._waited_s = 0.0
        self._asked: float | None = None  # when, for the bytes that are to come next
        self._reading: asyncio.Timeout | None = None

    @property
    def waited_s(self) -> float:
        """Seconds of waiting for its bytes; none of those in which they wait to be parsed."""
        asking_s = 0.0 if self._asked is None else time.monotonic() - self._asked
        return self._waited_s + asking_s

    @property
    def pace(self) -> float:
        """Bytes a second so far."""
        return self._received / max(self.waited_s, 1e-6)

    @property
    def still_comes(self) -> bool:
        """Whether bytes of the body are waited for, and it may be given up."""
        return self._reading is not None and self._asked is not None and not self.gave_way

    async def counted(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass a body on, and note how much of it has come."""
        self._asked = time.monotonic()
        async for chunk in stream:
            self._waited_s, self._asked = self.waited_s, None
            self._received += len(chunk)
            yield chunk
            self._asked = time.monotonic()
        self._waited_s, self._asked = self.waited_s, None

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
