"""The state of a running server: loading, ready, draining. One object, made by the app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from export.bundle import Bundle, open_bundle
from export.runtime import Runtime, available_cpus, open_runtime
from model.inputs import InputSpec, VideoLimits
from service.admission import Admission
from service.decode import DecodePool, PoolOptions
from service.engine import Engine
from service.errors import ApiError
from service.metrics import Metrics
from service.settings import Settings

PROBE_EVERY_S = 2.0  # readiness runs the network at most this often
PROBE_TIMEOUT_S = 10.0

OpenRuntime = Callable[[Bundle], Runtime]


class Server:
    """Starts and stops what requests need, and says whether it is there."""

    def __init__(self, settings: Settings, runtime: Runtime | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(settings.max_in_flight, settings.request_timeout_s)
        self.failure = ""  # why loading failed, for the operator: it may name paths
        self.on_failure: Callable[[], None] | None = None
        self._given_runtime = runtime
        self._engine: Engine | None = None
        self._pool: DecodePool | None = None
        self._starting: asyncio.Task[None] | None = None
        self._probed: tuple[float, str] = (-PROBE_EVERY_S, "")
        self._probing = asyncio.Lock()

    @property
    def engine(self) -> Engine:
        """The engine; ApiError 503 until it is there."""
        if self._engine is None:
            what = "could not load its bundle" if self.failure else "is starting"
            raise ApiError("not_ready", f"the server {what}", retry_after_s=2)
        return self._engine

    def begin(self) -> None:
        """Load in the background; the server listens meanwhile and answers 503."""
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        settings, log = self.settings, structlog.get_logger("service")
        started = time.perf_counter()
        try:
            bundle = await asyncio.to_thread(open_bundle, settings.bundle)
            self._pool = self._make_pool(bundle.manifest.inputs)
            runtime, _ = await asyncio.gather(
                asyncio.to_thread(self._open_runtime, bundle), self._pool.start()
            )
            engine = Engine(bundle, runtime, self._pool, settings, self.metrics)
            await engine.lane.run(runtime.warm_up)
            await engine.probe()
        except Exception as error:
            self.failure = str(error) or type(error).__name__
            log.error("loading failed", error=self.failure)
            if self.on_failure is not None:
                self.on_failure()
            return
        self._engine = engine
        self._watch(engine, self._pool)
        log.info(
            "ready",
            model=bundle.manifest.name,
            bundle=bundle.hash[:12],
            runtime=runtime.name,
            precision=runtime.precision,
            seconds=round(time.perf_counter() - started, 2),
        )

    def _open_runtime(self, bundle: Bundle) -> Runtime:
        settings = self.settings
        return self._given_runtime or open_runtime(
            bundle, settings.runtime, settings.precision, settings.threads
        )

    def _make_pool(self, inputs: InputSpec) -> DecodePool:
        s = self.settings
        limits = VideoLimits(
            max_pixels=s.max_pixels,
            max_side=s.max_side,
            max_duration_s=s.max_duration_s,
            max_frames=s.max_frames,
        )
        options = PoolOptions(max_decode_s=s.decode_timeout_s, memory_bytes=s.decode_memory_bytes)
        return DecodePool(s.decode_workers or available_cpus(), inputs, limits, options)

    def _watch(self, engine: Engine, pool: DecodePool) -> None:
        m, admission = self.metrics, self.admission
        m.build.info(
            {
                "model": engine.bundle.manifest.name,
                "bundle": engine.bundle.hash,
                "runtime": engine.runtime.name,
                "precision": engine.runtime.precision,
            }
        )
        m.watch("xclip_in_flight", "Requests being answered.", lambda: admission.in_flight)
        m.watch("xclip_lane_waiting", "Calls on the inference lane.", lambda: engine.lane.waiting)
        m.watch("xclip_decode_waiting", "Clips no worker has begun.", lambda: pool.waiting)
        m.watch("xclip_decode_running", "Clips a worker is at.", lambda: pool.running)
        m.watch("xclip_video_cache_bytes", "Clip features held.", lambda: engine.features.nbytes)
        m.watch("xclip_label_cache_entries", "Label vectors held.", lambda: len(engine.labels))
        m.watch_totals("xclip_decode_jobs", "Decode jobs, by how they ended.", lambda: {
            "decoded": pool.stats.decoded, "refused": pool.stats.refused,
            "dropped": pool.stats.dropped,
        })  # fmt: skip
        m.watch_totals(
            "xclip_decode_workers_ended", "Workers gone, by reason.", lambda: dict(pool.stats.ended)
        )

    async def check(self) -> dict[str, object]:
        """What readiness reports; ApiError 503 where the server cannot answer now."""
        if self.admission.draining:
            raise ApiError("draining", "the server is stopping", retry_after_s=1)
        engine = self.engine
        assert self._pool is not None
        if not self._pool.alive:
            raise ApiError("not_ready", "no decode worker can be started", retry_after_s=5)
        async with self._probing:
            when, failure = self._probed
            if time.monotonic() - when >= PROBE_EVERY_S:
                failure = await self._probe(engine)
                self._probed = (time.monotonic(), failure)
        if failure:
            raise ApiError("not_ready", failure, retry_after_s=5)
        return {
            "status": "ready",
            "decode_workers": len(self._pool.pids),
            "sandbox": self._pool.sandbox,
            "runtime": engine.runtime.name,
            "selection": list(engine.runtime.selection),
        }

    async def _probe(self, engine: Engine) -> str:
        """An empty string, or why the network does not answer; a busy lane is no failure."""
        if engine.lane.waiting:
            return ""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await engine.probe()
        except Exception as error:
            structlog.get_logger("service").error("probe failed", error=str(error))
            return "the network does not answer"
        return ""

    async def stop(self) -> None:
        """Finish nothing more, give everything back."""
        self.admission.draining = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._pool is not None:
            await self._pool.stop()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)
