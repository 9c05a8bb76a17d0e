"""Count how often each client asks: in Redis for all servers together, or here for this one.

The library `limits` counts, with a sliding window. A Redis that is away costs precision, never
an answer: until it is back each server counts for itself.
"""

from __future__ import annotations

import contextlib
import math
import time

import limits
import structlog
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter as Limiter

from service.cache.redis.circuit_breaker import CircuitBreaker
from service.cache.redis.client import connection_pool, error_kind
from service.cache.redis.timeouts import within
from service.contract.errors import ApiError
from service.contract.rate import Rate

PREFIX = "xclip-rate"
PROBE_TIMEOUT_S = 1.0


class RateLimiter:
    """Count requests by client. Create it, `start()` it on the event loop, `stop()` it."""

    def __init__(self, redis_url: str | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._own = Limiter(MemoryStorage())
        self._shared: Limiter | None = None
        self._circuit: CircuitBreaker | None = None
        if redis_url is not None:
            self._pool = connection_pool(redis_url, timeout_s)
            self._storage = RedisStorage(
                f"async+{redis_url}",
                implementation="redispy",
                key_prefix=PREFIX,
                connection_pool=self._pool,  # type: ignore[arg-type]  # documented
            )
            self._shared = Limiter(self._storage)
            self._circuit = CircuitBreaker(self._probe, _tell)

    @property
    def shared(self) -> bool:
        """Whether Redis counts now."""
        return self._circuit is not None and self._circuit.closed

    def start(self) -> None:
        """Connect in the background."""
        if self._circuit is not None:
            self._circuit.start()

    async def stop(self) -> None:
        """Stop asking Redis."""
        if self._circuit is not None:
            await self._circuit.stop()
            with contextlib.suppress(Exception):  # nothing follows that could go wrong
                await within(PROBE_TIMEOUT_S, self._pool.aclose())

    async def count(self, rate: Rate, client: str) -> None:
        """Count one request of a client.

        Raises:
            ApiError: `rate_limited`, where a part of the rate is used up.
        """
        for part in rate.parts:
            limiter, let_in = await self._hit(part, client)
            if not let_in:
                raise ApiError(
                    "rate_limited",
                    f"the limit of {part} is reached; ask again later",
                    retry_after_s=await self._wait_s(limiter, part, client),
                )

    async def _hit(self, part: limits.RateLimitItem, client: str) -> tuple[Limiter, bool]:
        """Count in Redis where it can be asked, else here; say where, and whether there is room."""
        if self._shared is not None and self._circuit is not None and self.shared:
            try:
                return self._shared, await within(self._timeout_s, self._shared.hit(part, client))
            except Exception as error:  # whatever a broken Redis brings about
                self._circuit.trip(error_kind(error))
        return self._own, await self._own.hit(part, client)

    async def _wait_s(self, limiter: Limiter, part: limits.RateLimitItem, client: str) -> int:
        """Return the seconds until there is room again; a whole window where nobody can tell."""
        try:
            window = await within(self._timeout_s, limiter.get_window_stats(part, client))
            wait_s = window.reset_time - time.time()
        except Exception:  # as above
            wait_s = part.get_expiry()
        return max(1, math.ceil(wait_s))

    async def _probe(self) -> str | None:
        """Ask Redis, on a fresh connection; return what is wrong."""
        try:
            await self._pool.disconnect(inuse_connections=False)
            alive = await within(PROBE_TIMEOUT_S, self._storage.check())
        except Exception as error:  # as above
            return error_kind(error)
        return None if alive else "connection"


def _tell(up: bool, reason: str) -> None:
    log = structlog.get_logger("service")
    if up:
        log.info("rates are counted in Redis")
    else:
        log.warning("rates are counted by this server alone", why=reason)
