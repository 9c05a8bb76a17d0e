"""The state of a running server: loading, ready, draining. One object, made by the app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from export.runtime import Runtime
from service.access.admission import Admission
from service.access.auth import Access
from service.contract.errors import ApiError
from service.contract.served import ReadyState
from service.inference.engine import Engine
from service.lifecycle.decode_memory import warn_of_too_little_memory
from service.lifecycle.engine_loader import EngineLoader
from service.lifecycle.gauges import watch_server
from service.lifecycle.readiness import Readiness
from service.settings import Settings
from service.sharing.fair_threads import FairThreads
from service.sharing.pace import Pace
from service.telemetry.engine_telemetry import EngineTelemetry
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import open_tracing

if TYPE_CHECKING:
    from service.access.video_url import Fetcher
    from service.cache.redis.client import SharedCache

PARSING_THREADS = 2
# Answers of little cost that a client has at once, and by how much others are put off at most.
BRIEF_ANSWERS_PER_S, ANSWERED_WITHIN_S = 100, 1.0


class ServiceState:
    """Starts and stops what requests need, and says whether it is there."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(
            settings.max_in_flight,
            settings.max_uploads,
            settings.request_timeout_s,
            settings.max_uploads_per_client,
            settings.max_question_bytes,
        )
        self.pace = Pace(BRIEF_ANSWERS_PER_S, ANSWERED_WITHIN_S)
        self.access = Access(settings)
        self.parsing = FairThreads(PARSING_THREADS, "parsing", self.access.charge)
        self.fetcher = _fetcher(settings)
        self.readiness = Readiness(settings.upload_dir)
        self.failure: str | None = None  # why loading failed, for the operator: it may name paths
        self.on_failure: Callable[[], None] | None = None
        self.on_ready: Callable[[], None] | None = None
        self.unreachable: Callable[[], bool] = lambda: False  # whether no stranger can connect
        self.last_reload: str | None = None  # what became of the last SIGHUP
        self.cache = _shared_cache(settings)
        self.tracing = open_tracing()
        self.loader = EngineLoader(
            settings,
            EngineTelemetry(self.metrics, self.tracing),
            self.cache,
            runtime,
            self.access.charge,
        )
        self._engine: Engine | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        """The engine; ApiError `not_ready` until it is there."""
        self.check_started()
        assert self._engine is not None
        return self._engine

    def check_started(self) -> None:
        """Refuse with ApiError `not_ready` until the bundle is loaded."""
        if self._engine is None:
            what = "could not load its bundle" if self.failure else "is starting"
            raise ApiError("not_ready", f"the server {what}", retry_after_s=2)

    def begin(self) -> None:
        """Load in the background; the server listens meanwhile and answers 503."""
        warn_of_too_little_memory(self.settings)
        self.access.start()
        if self.cache is not None:
            self.cache.start()
        self._starting = asyncio.create_task(self._start())

    async def started(self) -> None:
        """Wait until loading has ended, well or not."""
        if self._starting is not None:
            await asyncio.wait({self._starting})

    def serve(self, engine: Engine) -> None:
        """Send requests that come from now on to this engine."""
        self._engine = engine
        self.readiness.good()
        self.metrics.build.info(
            {
                "model": engine.bundle.manifest.name,
                "bundle": engine.bundle.hash,
                "runtime": engine.runtime.name,
                "precision": engine.runtime.precision,
            }
        )

    async def _start(self) -> None:
        log, started = structlog.get_logger("service"), time.perf_counter()
        try:
            engine = await self.loader.load(await self.loader.read_bundle())
        except Exception as error:
            self.failure = str(error) or type(error).__name__
            if self.on_failure is None:
                log.error("loading failed", error=self.failure)
            else:
                self.on_failure()
            return
        self.serve(engine)
        watch_server(self)
        if self.on_ready is not None:
            self.on_ready()
        log.info(
            "ready",
            model=engine.bundle.manifest.name,
            bundle=engine.bundle.hash[:12],
            runtime=engine.runtime.name,
            precision=engine.runtime.precision,
            selection=list(engine.runtime.selection),
            seconds=round(time.perf_counter() - started, 2),
        )

    async def check(self) -> ReadyState:
        """Report readiness; ApiError `not_ready` or `draining` where the server cannot answer."""
        if self.admission.draining:
            raise ApiError("draining", "the server is stopping", retry_after_s=1)
        engine = self.engine
        if self.admission.stuck or self.unreachable():
            raise ApiError(
                "not_ready", "every place is taken, and none comes free", retry_after_s=5
            )
        await self.readiness.check(engine)
        return ReadyState(
            bundle=f"sha256:{engine.bundle.hash}",
            decode_workers=engine.pool.ready,
            sandbox=engine.pool.sandbox,
            runtime=engine.runtime.name,
            selection=engine.runtime.selection,
            shared_cache=self.cache.state if self.cache is not None else "not configured",
            last_reload=self.last_reload or "none",
        )

    async def stop(self) -> None:
        """Finish nothing more, give everything back."""
        self.admission.draining = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._engine is not None:
            await self._engine.pool.stop()
            await asyncio.to_thread(self._engine.close)
        await self.access.stop()
        await asyncio.to_thread(self.parsing.close)
        await asyncio.to_thread(self.tracing.close)
        if self.cache is not None:
            await self.cache.stop()


def _fetcher(settings: Settings) -> Fetcher | None:
    """Make what fetches a video_url, loaded only where that is open."""
    if not settings.video_url_hosts:
        return None
    from service.access.video_url import Fetcher

    return Fetcher(
        settings.video_url_hosts,
        timeout_s=settings.video_url_timeout_s,
        max_bytes=settings.max_upload_bytes,
        directory=settings.upload_dir,
    )


def _shared_cache(settings: Settings) -> SharedCache | None:
    """Make the Redis client, loaded only where there is a Redis."""
    if settings.redis_url is None:
        return None
    from service.cache.redis.client import SharedCache

    return SharedCache(
        settings.redis_url.get_secret_value(),
        timeout_s=settings.redis_timeout_s,
        ttl_s=settings.redis_ttl_s,
    )
