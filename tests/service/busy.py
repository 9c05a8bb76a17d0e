"""A thread that is held up until it is let go, so that work gathers behind it."""

from __future__ import annotations

import asyncio
import threading

from service.inference.inference_thread import InferenceThread


class Busy:
    """Made inside a running event loop."""

    def __init__(self) -> None:
        self.thread = InferenceThread()
        self._held = threading.Event()
        self._holding = asyncio.ensure_future(self.thread.run(self._held.wait))

    async def let_go(self) -> None:
        self._held.set()
        await self._holding
