"""From the settings to an engine that has proved that it answers; at the start and at a swap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from export.bundle import Bundle
from export.runtime import Runtime, available_cpus
from model.inputs import InputSpec
from service.contract.errors import ApiError
from service.decode import DecodePool
from service.inference.engine import Engine, Stores
from service.lifecycle.bundle_opening import checked_runtime, served_bundle
from service.lifecycle.decode_trial import try_decoding
from service.lifecycle.detached import run_detached
from service.lifecycle.warm_labels import read_warm_labels
from service.settings import Settings
from service.sharing.costs import Charge, free
from service.telemetry.engine_telemetry import EngineTelemetry

if TYPE_CHECKING:
    from service.cache.redis.client import SharedCache

Result = TypeVar("Result")


class BundleTimeout(Exception):
    """A bundle was not there in time; the text says which, and the setting."""


@dataclass(frozen=True)
class EngineLoader:
    """Makes engines of one server. `given_runtime` stands for the bundle's own in tests."""

    settings: Settings
    telemetry: EngineTelemetry
    cache: SharedCache | None = None
    given_runtime: Runtime | None = None
    charge: Charge = free

    async def read_bundle(self) -> Bundle:
        """Open what the settings name now, by its manifest; its files are checked by `load`."""
        return await self._in_time(lambda: served_bundle(self.settings))

    async def check(self, bundle: Bundle) -> None:
        """Hash every file; BundleError names one that is not what was exported."""
        await self._in_time(bundle.check_files)

    async def load(self, bundle: Bundle, old: Engine | None = None) -> Engine:
        """Make an engine, warm and tried; an exception says what is wrong with it.

        It takes over the decode workers of `old` where both bundles want the same frames. While a
        new one starts, the files are checked and the network is loaded; the other workers follow
        when the network has been tried, so as not to take the processors from it.
        """
        inputs = bundle.manifest.inputs
        shared = old.pool if old is not None and old.bundle.manifest.inputs == inputs else None
        pool = shared or self._make_pool(inputs)
        making = asyncio.create_task(self._tried_engine(bundle, pool))
        try:
            if pool is not shared:
                await pool.start(at_first=1)
                await try_decoding(pool, self.settings.upload_dir)
            engine = await making
        except BaseException:
            making.cancel()
            await _close(making)
            if pool is not shared:
                await pool.stop()
            raise
        pool.complete()
        return engine

    async def warm(self, engine: Engine) -> None:
        """Compute the vectors of the start-up list."""
        file = self.settings.warm_labels
        labels = await self._in_time(lambda: read_warm_labels(file)) if file is not None else []
        if labels:
            if self.cache is not None:
                await self.cache.asked()
            try:
                await engine.labels.embed(labels)
            except ApiError as error:
                raise ValueError(f"warm_labels {file}: {error.detail}") from None

    async def _tried_engine(self, bundle: Bundle, pool: DecodePool) -> Engine:
        """Make an engine whose network has answered, and which knows the start-up list."""
        runtime = await self._in_time(lambda: self._open_runtime(bundle), Runtime.close)
        try:
            engine = self._make_engine(bundle, runtime, pool)
            await engine.warm_up()
            await self.warm(engine)
        except BaseException:
            runtime.close()
            raise
        return engine

    async def _in_time(
        self, call: Callable[[], Result], close: Callable[[Result], object] | None = None
    ) -> Result:
        """Return what reads a bundle or its like; BundleTimeout where that takes too long."""
        limit_s = self.settings.bundle_timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await run_detached(call, close)
        except TimeoutError:
            if not limit.expired():  # of the file system
                raise
            raise BundleTimeout(
                f"{self.settings.bundle} was not read and opened within {limit_s:g} s "
                "(XCLIP_BUNDLE_TIMEOUT_S)"
            ) from None

    def _open_runtime(self, bundle: Bundle) -> Runtime:
        if self.given_runtime is None:
            return checked_runtime(bundle, self.settings)
        bundle.check_files()
        return self.given_runtime

    def _make_engine(self, bundle: Bundle, runtime: Runtime, pool: DecodePool) -> Engine:
        stores = self._stores(bundle, runtime)
        return Engine(bundle, runtime, pool, self.settings, self.telemetry, stores, self.charge)

    def _stores(self, bundle: Bundle, runtime: Runtime) -> Stores:
        """Make what is shared through Redis, loaded only where there is one."""
        cache, clip_ttl_s = self.cache, self.settings.redis_clip_ttl_s
        if cache is None:
            return Stores()
        from service.cache.redis.clip_store import SharedClips
        from service.cache.redis.label_store import SharedLabels
        from service.cache.redis.records import Records

        secret = self.settings.redis_secret
        records = Records(secret.get_secret_value().encode() if secret else b"")
        clips = SharedClips(cache, bundle, runtime, clip_ttl_s, records) if clip_ttl_s else None
        return Stores(SharedLabels(cache, bundle, runtime, records), clips)

    def _make_pool(self, inputs: InputSpec) -> DecodePool:
        s = self.settings
        workers = s.decode_workers or available_cpus()
        return DecodePool(workers, inputs, s.video_limits, s.pool_options, charge=self.charge)


async def _close(making: asyncio.Task[Engine]) -> None:
    """Close the engine that was being made, if it comes to that."""
    await asyncio.wait({making})
    if not making.cancelled() and making.exception() is None:
        making.result().close()
