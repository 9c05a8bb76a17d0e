"""An engine in this process: on an event loop of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from queue import SimpleQueue
from typing import TypeVar

from export.runtime import DeviceMemoryError
from model.inputs import VideoError
from service.contract.errors import ApiError
from service.contract.upload import Upload
from service.inference.engine import Engine
from service.lifecycle.engine_loader import EngineLoader
from service.settings import Settings
from service.telemetry.engine_telemetry import EngineTelemetry
from service.telemetry.metrics import Metrics
from xclip_serve.errors import ClassifyError
from xclip_serve.question import Video
from xclip_serve.uploads import upload_of

WAITING_PER_WORKER = 2  # clips that wait while one is decoded: nobody is ever without work

A = TypeVar("A")


class EngineLoop:
    """Load an engine, and run what is asked of it; any thread may ask.

    Args:
        settings: As of a server.

    Raises:
        ValueError: The bundle is damaged.
        RuntimeError: The network cannot be run here, or no clip be decoded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: Future[tuple[Engine, asyncio.AbstractEventLoop]] = Future()
        self._closing = asyncio.Event()
        # The kernel ends decode workers with the thread that has started them.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live()), name="classifier", daemon=True
        )
        self._thread.start()
        self.engine, self._loop = self._loaded.result()

    @property
    def enough(self) -> int:
        """Clips under way at a time that keep every core at work."""
        return self.engine.pool.workers * (1 + WAITING_PER_WORKER)

    def submit(
        self, video: Video | None, answer: Callable[[Upload | None], Awaitable[A]]
    ) -> Future[A]:
        """Open a clip, and have `answer` asked about it on the event loop.

        The future raises ClassifyError where there is no answer, OSError where the file cannot be
        read.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the classifier is closed")
        return asyncio.run_coroutine_threadsafe(self._ask(video, answer), self._loop)

    def run(self, video: Video | None, answer: Callable[[Upload | None], Awaitable[A]]) -> A:
        """Do the same and wait for it."""
        future = self.submit(video, answer)
        try:
            return future.result()
        finally:
            future.cancel()  # where the caller was interrupted

    def stream(
        self, video: Video | None, answer: Callable[[Upload | None], AsyncGenerator[A, None]]
    ) -> Iterator[A]:
        """Yield what comes of it, as it comes; whoever stops reading ends the work."""
        lines: SimpleQueue[A | None] = SimpleQueue()

        async def put(upload: Upload | None) -> None:
            async with aclosing(answer(upload)) as coming:
                async for line in coming:
                    lines.put(line)

        future = self.submit(video, put)
        future.add_done_callback(lambda _: lines.put(None))
        try:
            while (line := lines.get()) is not None:
                yield line
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the decode workers and the runtime; questions under way are dropped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    async def _live(self) -> None:
        try:
            loader = EngineLoader(self.settings, EngineTelemetry(Metrics()))
            engine = await loader.load(await loader.read_bundle())
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result((engine, asyncio.get_running_loop()))
        await self._closing.wait()
        await engine.pool.stop()
        await asyncio.to_thread(engine.close)

    async def _ask(self, video: Video | None, answer: Callable[[Upload | None], Awaitable[A]]) -> A:
        upload: Upload | None = None
        try:
            if video is not None:
                upload = await self._opened(video)
            return await answer(upload)
        except (ApiError, VideoError, MemoryError, DeviceMemoryError) as error:
            raise _problem(error) from error
        finally:
            if upload is not None:
                upload.close()

    async def _opened(self, video: Video) -> Upload:
        """Open a clip in a thread; where nobody waits for it any more, it is closed again."""
        folder = self.settings.upload_dir
        opening = asyncio.get_running_loop().run_in_executor(None, upload_of, video, folder)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(Exception):
                (await opening).close()
            raise


def _problem(error: BaseException) -> ClassifyError:
    """Say what the API would answer: one table for both."""
    from service.api.problems import as_api_error, status_of

    known = as_api_error(error)
    return ClassifyError(
        known.code, known.detail, status=status_of(known), retry_after_s=known.retry_after_s
    )
