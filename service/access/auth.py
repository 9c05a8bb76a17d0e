"""Decide who asks, whether they may, and how often, before anything of a body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.security import APIKeyHeader, HTTPBearer

from service.access.client import client_of
from service.access.origin import check_host, check_origin
from service.contract.errors import ApiError
from service.settings import Settings
from service.sharing.costs import Charge, free

if TYPE_CHECKING:
    from service.access.api_keys import KeyFile
    from service.access.budget import Budget
    from service.access.rate_limits import RateLimiter
    from service.contract.rate import Rate

BEARER = "bearer "
HEADER = "X-API-Key"
# How a key is sent, for the OpenAPI document of a server that asks for keys.
KEY_SCHEMES = (
    HTTPBearer(auto_error=False, scheme_name="bearer"),
    APIKeyHeader(name=HEADER, auto_error=False, scheme_name="header"),
)


class Access:
    """The keys, rates, names and origins of a server; without any, everybody may ask at will."""

    def __init__(self, settings: Settings) -> None:
        self._origins, self._hosts = settings.cors_origins, settings.allowed_hosts
        self._keys: KeyFile | None = None
        self._rate: Rate | None = None
        self._rates: RateLimiter | None = None
        self._budget: Budget | None = None
        if settings.api_keys_file or settings.rate_limit or settings.cost_limit:
            self._open(settings)

    def _open(self, settings: Settings) -> None:
        """Load keys and rates, only where there are some."""
        from service.access.api_keys import KeyFile
        from service.access.budget import Budget
        from service.access.rate_limits import RateLimiter
        from service.contract.rate import parse_rate

        self._keys = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
        self._rate = parse_rate(settings.rate_limit) if settings.rate_limit else None
        url = settings.redis_url.get_secret_value() if settings.redis_url else None
        self._rates = RateLimiter(url, settings.redis_timeout_s)
        if settings.cost_limit:
            self._budget = Budget(parse_rate(settings.cost_limit), self._rates)

    @property
    def asks_for_key(self) -> bool:
        """Whether a request without a key is refused."""
        return self._keys is not None

    @property
    def keys_stale(self) -> bool:
        """Whether the key file could not be read again when it changed."""
        return self._keys is not None and self._keys.stale

    @property
    def charge(self) -> Charge:
        """What is told, from any thread, whose work has taken how many seconds."""
        return free if self._budget is None else self._budget.costs.charge

    def start(self) -> None:
        """Begin to count requests, on the event loop."""
        if self._rates is not None:
            self._rates.start()
        if self._budget is not None:
            self._budget.start()

    async def stop(self) -> None:
        """Stop counting requests."""
        if self._budget is not None:
            await self._budget.stop()
        if self._rates is not None:
            await self._rates.stop()

    async def identify(self, request: Request) -> str:
        """Return the name of the key, or of the address, that a request comes from.

        Raises:
            ApiError: `unauthorized` for a wrong key or none, `unknown_host`.
        """
        return self._who(request)[0]

    async def admit(self, request: Request) -> str:
        """Identify the client of a request to classify, and count the request.

        Raises:
            ApiError: As `identify`; `foreign_origin`; `rate_limited` when it is one too many, or
                those before have cost too much.
        """
        check_origin(request.headers, self._origins)
        return await self.count(request)

    async def count(self, request: Request) -> str:
        """Identify the client of any request that costs something, and count the request.

        Raises:
            ApiError: As `identify`; `rate_limited`.
        """
        client, rate = self._who(request)
        if self._budget is not None:
            await self._budget.check(client)
        if rate is not None and self._rates is not None:
            await self._rates.count(rate, client)
        return client

    def _who(self, request: Request) -> tuple[str, Rate | None]:
        """Return the client and its rate; the request knows its client from then on."""
        check_host(request.headers, self._hosts)
        if self._keys is not None:
            client, rate = self._by_key(request, self._keys)
        else:
            client, rate = _by_address(request), self._rate
        request.state.client = client
        return client, rate

    def _by_key(self, request: Request, keys: KeyFile) -> tuple[str, Rate | None]:
        given = _given(request)
        key = keys.find(given) if given else None
        if key is None:
            wrong = "this API key is not known" if given else "this server asks for an API key"
            raise ApiError(
                "unauthorized", f"{wrong}; send it as Authorization: Bearer … or {HEADER}: …"
            )
        return key.name, key.rate or self._rate


def _by_address(request: Request) -> str:
    return client_of(request.client.host if request.client else None)


def _given(request: Request) -> str:
    """Return the key that came with a request, empty where none did."""
    header = request.headers.get("authorization", "")
    if header[: len(BEARER)].lower() == BEARER:
        return header[len(BEARER) :].strip()
    return request.headers.get(HEADER, "").strip()
