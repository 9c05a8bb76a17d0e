"""An answer in lines, each sent as soon as it is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.hanging_up import hung_up
from service.api.paced_response import PIECE_BYTES

LINES = "application/x-ndjson"
# Proxies pass each line on as it comes (nginx reads the second).
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Line = TypeVar("Line")


class LineResponse(Response, Generic[Line]):
    """Send lines while the work goes on; end the work when the client hangs up.

    The work does not wait for a client who reads slowly: what it has made lies here until it is on
    its way, which is no more than an answer in one piece would be.

    Args:
        first: What is there already.
        lines: What comes; closed in the end, whatever it is at.
        written: Writes a line.
        problem: Writes the last line, of an error that the work ended with.
        ends: When the work must be done, as `loop.time()` has it; else TimeoutError ends it.
        held: What is given back once the answer is out or the client is gone.
    """

    def __init__(
        self,
        first: Line,
        lines: AsyncGenerator[Line, None],
        written: Callable[[Line], bytes],
        problem: Callable[[BaseException], bytes],
        ends: float,
        held: contextlib.ExitStack,
    ) -> None:
        super().__init__(media_type=LINES, headers=UNBUFFERED)
        del self.headers["content-length"]
        self._lines, self._written, self._problem = lines, written, problem
        self._ends, self._held = ends, held
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ready.put_nowait(written(first))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self._held:
            async with contextlib.aclosing(self._lines):
                await self._answer(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        tasks = [
            asyncio.create_task(task)
            for task in (self._work(), self._write(send), hung_up(receive))
        ]
        _, answer, gone = tasks
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        try:
            async with asyncio.timeout_at(self._ends):
                async for line in self._lines:
                    self._ready.put_nowait(self._written(line))
        except Exception as error:
            self._ready.put_nowait(self._problem(error))
        self._ready.put_nowait(None)

    async def _write(self, send: Send) -> None:
        while (line := await self._ready.get()) is not None:
            for first in range(0, len(line), PIECE_BYTES):
                piece = line[first : first + PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
