"""From the settings to an engine that has proved that it answers; at the start and at a swap."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.bundle import Bundle, open_bundle
from export.runtime import Runtime, available_cpus, open_runtime
from model.inputs import InputSpec, VideoLimits
from service.decode import DecodePool, PoolOptions
from service.engine import Engine
from service.errors import ApiError
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import Tracing
from service.warm_labels import read_warm_labels

if TYPE_CHECKING:
    from service.feature_cache import FeatureStore
    from service.label_cache import LabelStore
    from service.shared_cache import SharedCache


@dataclass(frozen=True)
class Loader:
    """Makes engines of one server. `given_runtime` stands for the bundle's own in tests."""

    settings: Settings
    metrics: Metrics
    cache: SharedCache | None = None
    given_runtime: Runtime | None = None
    tracing: Tracing | None = None

    async def read_bundle(self) -> Bundle:
        """What the settings name now, by its manifest; its files are checked by `load`.

        A link is followed once: when it is turned to another bundle, what is open stays whole.
        """
        folder = self.settings.bundle.resolve()
        return await asyncio.to_thread(open_bundle, folder, check_files=False)

    async def load(self, bundle: Bundle, old: Engine | None = None) -> Engine:
        """An engine, warm and tried, or an exception that says what is wrong.

        It takes over the decode workers of `old` where both bundles want the same frames. While new
        ones start, the files are checked and the network is loaded.
        """
        inputs = bundle.manifest.inputs
        shared = old.pool if old is not None and old.bundle.manifest.inputs == inputs else None
        pool = shared or self._make_pool(inputs)
        opening = asyncio.create_task(asyncio.to_thread(self._open_runtime, bundle))
        try:
            if pool is not shared:
                await pool.start()
            runtime = await opening
            engine = self._make_engine(bundle, runtime, pool)
            await engine.lane.run(runtime.warm_up)
            await engine.probe()
            await self.warm(engine)
        except BaseException:
            await _close(opening)
            if pool is not shared:
                await pool.stop()
            raise
        return engine

    async def warm(self, engine: Engine) -> None:
        """Have the vectors of the start-up list at hand."""
        file = self.settings.warm_labels
        prompts = read_warm_labels(file) if file is not None else []
        if prompts:
            if self.cache is not None:
                await self.cache.asked()
            try:
                await engine.labels.get(prompts)
            except ApiError as error:
                raise ValueError(f"warm_labels {file}: {error.detail}") from None

    def _open_runtime(self, bundle: Bundle) -> Runtime:
        """The runtime, once every file of the bundle has been found to be what was exported."""
        bundle.check_files()
        settings = self.settings
        return self.given_runtime or open_runtime(
            bundle,
            settings.runtime,
            settings.precision,
            settings.threads,
            gpu_memory_bytes=settings.gpu_memory_bytes,
            engine_cache=settings.engine_cache,
            cuda_graphs=settings.cuda_graphs,
        )

    def _make_engine(self, bundle: Bundle, runtime: Runtime, pool: DecodePool) -> Engine:
        labels, clips = self._stores(bundle, runtime)
        return Engine(
            bundle, runtime, pool, self.settings, self.metrics, labels, clips, self.tracing
        )

    def _stores(
        self, bundle: Bundle, runtime: Runtime
    ) -> tuple[LabelStore | None, FeatureStore | None]:
        """What is shared through Redis, loaded only where there is one."""
        cache, clip_ttl_s = self.cache, self.settings.redis_clip_ttl_s
        if cache is None:
            return None, None
        from service.clip_store import SharedClips
        from service.label_store import SharedLabels

        clips = SharedClips(cache, bundle, runtime, clip_ttl_s) if clip_ttl_s else None
        return SharedLabels(cache, bundle, runtime), clips

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


async def _close(opening: asyncio.Task[Runtime]) -> None:
    """Close the runtime that was being opened, if it comes to that."""
    (runtime,) = await asyncio.gather(opening, return_exceptions=True)
    if not isinstance(runtime, BaseException):
        runtime.close()
