"""A new bundle in place of the old one while requests go on (SIGHUP).

The new one is loaded, warmed and tried beside the old one, then new requests go to it. Whatever is
wrong with it, the old one stays. Requests that began with the old one end with it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import structlog

from service.lifecycle.service_state import ServiceState
from service.telemetry.metrics import ReloadResult


class Reloader:
    """Swaps the bundle of a server when asked; asked while at it, once more afterwards."""

    def __init__(self, server: ServiceState) -> None:
        self._server = server
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Swap when the process gets SIGHUP; nothing to do off the main thread (in tests)."""
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.ask)

    def ask(self) -> None:
        """Swap soon."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give up a swap that has not happened."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await self._server.started()
        while self._again and not self._server.failure:
            self._again = False
            started = time.perf_counter()
            self._server.last_reload = "running"
            result, why = await self._swap()
            self._server.metrics.reloads.labels(result).inc()
            self._server.last_reload = f"{result}: {why}" if why else str(result)
            log = structlog.get_logger("service")
            (log.error if result is ReloadResult.REFUSED else log.info)(
                "reload",
                result=result,
                why=why,
                bundle=self._server.engine.bundle.hash[:12],
                seconds=round(time.perf_counter() - started, 2),
            )

    async def _swap(self) -> tuple[ReloadResult, str | None]:
        """Return what became of it, and why it was refused."""
        server = self._server
        old, loader = server.engine, server.loader
        try:
            bundle = await loader.read_bundle()
            if bundle.hash == old.bundle.hash:
                await loader.check(bundle)
                await loader.warm(old)
                return ReloadResult.UNCHANGED, None
            new = await loader.load(bundle, old)
        except Exception as error:  # nothing about a new bundle may end the old one
            return ReloadResult.REFUSED, str(error) or type(error).__name__
        server.serve(new)
        try:
            await old.unused()
        finally:
            await asyncio.to_thread(old.close)
            if old.pool is not new.pool:
                await old.pool.stop()
        return ReloadResult.SWAPPED, None
