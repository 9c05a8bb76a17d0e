"""A rate of cost: seconds of work that each client may use up, as `XCLIP_COST_LIMIT` says."""

from __future__ import annotations

import asyncio
import contextlib

from service.access.rate_limits import RateLimiter
from service.contract.rate import Rate
from service.sharing.costs import Costs

SETTLE_EVERY_S = 1.0  # how late other servers hear of a cost at most


class Budget:
    """Refuses clients whose work has taken more seconds than `rate` allows.

    What a request costs is known when its work is done, so it is charged then, and the next request
    is refused. `costs` is told by whoever does the work.
    """

    def __init__(self, rate: Rate, rates: RateLimiter) -> None:
        self.costs = Costs()
        self._rate, self._written = rate.in_milliseconds(), rate
        self._rates = rates
        self._settling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to pass costs on, on the event loop."""
        self._settling = asyncio.create_task(self._settle_now_and_then())

    async def stop(self) -> None:
        """Pass on what is left."""
        if self._settling is not None:
            self._settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._settling
        await self._settle()

    async def check(self, client: str) -> None:
        """Refuse a client whose seconds are used up; ApiError `rate_limited`."""
        await self._charge(client, self.costs.take(client))
        why = f"your requests have taken the limit of {self._written}, in seconds of work"
        await self._rates.check(self._rate, client, why)

    async def _settle_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_EVERY_S)
            await self._settle()

    async def _settle(self) -> None:
        for client, seconds in self.costs.take_all().items():
            await self._charge(client, seconds)

    async def _charge(self, client: str, seconds: float) -> None:
        if seconds:
            await self._rates.charge(self._rate, client, round(1000 * seconds) or 1)
