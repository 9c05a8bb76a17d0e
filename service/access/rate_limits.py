"""Count what each client asks or costs: in Redis for all servers together, or here for this one.

The library `limits` counts, with a sliding window. A Redis that is away costs precision, never
an answer: until it is back each server counts for itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import limits
import structlog
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.aio.strategies import SlidingWindowCounterRateLimiter as Limiter

from service.cache.redis.circuit_breaker import CircuitBreaker
from service.cache.redis.client import CONNECTIONS, connection_pool, error_kind
from service.cache.redis.timeouts import within
from service.contract.errors import ApiError
from service.contract.rate import Rate
from service.sharing.fair_places import FairPlaces

PREFIX = "xclip-rate"
PROBE_TIMEOUT_S = 1.0
WITHOUT_BOUND = 1 << 50  # to count what has been used up already, however much it is

Result = TypeVar("Result")


class RateLimiter:
    """Count requests by client. Create it, `start()` it on the event loop, `stop()` it."""

    def __init__(self, redis_url: str | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._own = Limiter(MemoryStorage())
        self._shared: Limiter | None = None
        self._circuit: CircuitBreaker | None = None
        self._asking = FairPlaces(CONNECTIONS - 1)  # one is there to ask whether it is well
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
            if not await self._asked(Limiter.hit, part, client):
                raise await self._refusal(part, client, f"the limit of {part} is reached")

    async def check(self, rate: Rate, client: str, what: str) -> None:
        """Refuse a client who has used up a part of a rate, without counting anything.

        Raises:
            ApiError: `rate_limited`; its detail begins with `what`.
        """
        for part in rate.parts:
            if not await self._asked(Limiter.test, part, client):
                raise await self._refusal(part, client, what)

    async def charge(self, rate: Rate, client: str, amount: int) -> None:
        """Count what a client has used up already, also where that is more than there was.

        What is over counts in the next window, too, by the part of this one that it still overlaps.
        """
        for part in rate.parts:
            await self._asked(_add, part, client, amount)

    async def _asked(
        self,
        ask: Callable[..., Coroutine[Any, Any, Result]],
        part: limits.RateLimitItem,
        client: str,
        *more: int,
    ) -> Result:
        """Ask the limiter of Redis where that can be asked, else the one here.

        In turn by client: hundreds at once would wait for a connection longer than the time-out,
        and have everybody's requests counted by each server alone.
        """
        if self._shared is not None and self._circuit is not None and self.shared:
            async with self._asking.place(client):
                if self.shared:  # still, now that it is this one's turn
                    try:
                        asked = ask(self._shared, part, client, *more)
                        return await within(self._timeout_s, asked)
                    except Exception as error:  # whatever a broken Redis brings about
                        self._circuit.trip(error_kind(error))
        return await ask(self._own, part, client, *more)

    async def _refusal(self, part: limits.RateLimitItem, client: str, why: str) -> ApiError:
        wait_s = await self._asked(_wait_s, part, client)
        return ApiError(
            "rate_limited", f"{why}; ask again later", retry_after_s=max(1, math.ceil(wait_s))
        )

    async def _probe(self) -> str | None:
        """Ask Redis, on a fresh connection; return what is wrong."""
        try:
            await self._pool.disconnect(inuse_connections=False)
            alive = await within(PROBE_TIMEOUT_S, self._storage.check())
        except Exception as error:  # as above
            return error_kind(error)
        return None if alive else "connection"


async def _add(limiter: Limiter, part: limits.RateLimitItem, client: str, amount: int) -> None:
    key, window_s = part.key_for(client), part.get_expiry()
    await _windows(limiter).acquire_sliding_window_entry(key, WITHOUT_BOUND, window_s, amount)


async def _wait_s(limiter: Limiter, part: limits.RateLimitItem, client: str) -> float:
    key, window_s = part.key_for(client), part.get_expiry()
    before, before_s, now, now_s = await _windows(limiter).get_sliding_window(key, window_s)
    return until_room_s(part.amount, window_s, before, before_s, now, now_s - window_s)


def until_room_s(
    amount: int, window_s: float, before: int, before_s: float, now: int, now_s: float
) -> float:
    """Return the seconds until a sliding window has room for one more, if nothing is added to it.

    The library's own figure is when anything at all is forgotten: too soon for who is far over.

    Args:
        amount: What a window may hold.
        window_s: Length of a window.
        before: What was counted in the last window …
        before_s: … and for how long a part of that still counts.
        now: What was counted in the present window …
        now_s: … and how long it goes on.
    """
    room = amount - now
    if room > 0:
        return max(0.0, before_s - room * window_s / before) if before else 0.0
    return now_s + window_s * (1 - amount / now)


def _windows(limiter: Limiter) -> SlidingWindowCounterSupport:
    assert isinstance(limiter.storage, SlidingWindowCounterSupport)
    return limiter.storage


def _tell(up: bool, reason: str) -> None:
    log = structlog.get_logger("service")
    if up:
        log.info("rates are counted in Redis")
    else:
        log.warning("rates are counted by this server alone", why=reason)
