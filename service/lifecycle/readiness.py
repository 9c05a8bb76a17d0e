"""Whether the server could answer now: its workers are looked at and its network is tried."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from service.contract.errors import ApiError
from service.contract.upload import check_storage
from service.inference.engine import Engine
from service.lifecycle.decode_trial import DecodeTrialFailed, try_decoding

PROBE_EVERY_S = 2.0  # the network is tried at most this often …
PROBE_SHARE = 0.05  # … and for at most this share of the time, however large it is
PROBE_TIMEOUT_S = 10.0
STUCK_AFTER_S = 60.0  # no single call takes that long
FAILED_IN_A_ROW = 3


class Readiness:
    """Answers probes; however many come, they cost next to nothing."""

    def __init__(self, upload_dir: Path | None) -> None:
        self._upload_dir = upload_dir
        self._failure: str | None = None
        self._next_try = 0.0
        self._trying = asyncio.Lock()

    def forget(self) -> None:
        """Try the network at the next question."""
        self._next_try = 0.0

    def good(self) -> None:
        """Note that the network has just been tried, and answered."""
        self._failure = None
        self._next_try = time.monotonic() + PROBE_EVERY_S

    async def check(self, engine: Engine) -> None:
        """Refuse with ApiError `not_ready`, which says what is wrong, if anything is."""
        failure = _standstill(engine) or await self._decode_fault(engine)
        if failure is None:
            async with self._trying:
                if time.monotonic() >= self._next_try:
                    await self._try(engine)
            failure = self._failure
        if failure is not None:
            raise ApiError("not_ready", failure, retry_after_s=5)

    async def _decode_fault(self, engine: Engine) -> str | None:
        """Say why clips do not reach the workers; look again where the last one did not."""
        if engine.pool.fault is None:
            return None
        try:
            async with self._trying, asyncio.timeout(PROBE_TIMEOUT_S):
                await try_decoding(engine.pool, self._upload_dir)
        except (DecodeTrialFailed, TimeoutError) as error:
            structlog.get_logger("service").error("sample clip not decoded", error=str(error))
            return "clips cannot be handed to the decode workers"
        return None

    async def _try(self, engine: Engine) -> None:
        """Run the network once, unless requests show already that it runs."""
        thread = engine.thread
        if thread.waiting:
            self._failure = "the network fails" if thread.failing > FAILED_IN_A_ROW else None
            return
        started = time.monotonic()
        self._failure = await asyncio.to_thread(_storage_fault, self._upload_dir)
        self._failure = self._failure or await _probe(engine)
        now = time.monotonic()
        self._next_try = now + max(PROBE_EVERY_S, (now - started) / PROBE_SHARE)


def _standstill(engine: Engine) -> str | None:
    """Say why nothing goes on, where that shows without asking."""
    if not engine.pool.alive:
        return "no decode worker can be started"
    if engine.thread.running_s > STUCK_AFTER_S:
        return "the network has not answered for a long time"
    return None


def _storage_fault(upload_dir: Path | None) -> str | None:
    """Return why uploads cannot be stored; None when they can."""
    try:
        check_storage(upload_dir)
    except OSError as error:
        structlog.get_logger("service").error("no upload can be stored", error=str(error))
        return f"uploads cannot be stored ({error.strerror})"
    return None


async def _probe(engine: Engine) -> str | None:
    """Run the network once; say why it does not answer, if it does not."""
    try:
        with engine.use():
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await engine.probe()
    except Exception as error:
        structlog.get_logger("service").error("probe failed", error=str(error))
        return "the network does not answer"
    return None
