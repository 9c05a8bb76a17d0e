"""A lane that is held up until it is let go, so that work gathers behind it."""

from __future__ import annotations

import asyncio
import threading

from service.inference.inference_thread import Lane


class Busy:
    """Made inside a running event loop."""

    def __init__(self) -> None:
        self.lane = Lane()
        self._held = threading.Event()
        self._holding = asyncio.ensure_future(self.lane.run(self._held.wait))

    async def let_go(self) -> None:
        self._held.set()
        await self._holding
