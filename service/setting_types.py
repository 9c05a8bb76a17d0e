"""What a setting may be: numbers, names of hosts, origins, paths, rates, the address of a Redis.

Redis and rates are loaded where a setting asks for them: a server without is ready sooner.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")
HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+(:\d{1,5})?")
REDIS_SCHEMES = ("redis", "rediss", "unix")
ROOT_PATH = re.compile(r"[\w.~-]+(/[\w.~-]+)*", re.ASCII)


def check_redis_url(url: str) -> None:
    """Refuse what is no URL of a Redis with a ValueError that does not repeat it."""
    from redis.asyncio import BlockingConnectionPool

    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or not (parts.hostname or parts.path):
        raise ValueError("must look like redis://host:6379/0, rediss://… (TLS) or unix://path")
    try:
        BlockingConnectionPool.from_url(url)
    except (ValueError, TypeError):
        raise ValueError("has a part that the Redis client does not understand") from None


def _split(value: object) -> object:
    """Split one text with commas, as variables and flags have it, into several names."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    return tuple(name.strip() for part in parts for name in str(part).split(",") if name.strip())


def _host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if urlsplit(f"//{host}").hostname != host.lower().strip("[]"):
            raise ValueError(f"{host[:80]!r} is no host name; leave scheme and port out")
    return tuple(host.lower().strip("[]") for host in value)


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if not HOST.fullmatch(host):
            raise ValueError(f"{host[:80]!r} is no host name; write cdn.example.com")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise ValueError(f'{origin[:80]!r} is no origin; write https://host or "*"')
    return value


def _proxies(value: str) -> str:
    for proxy in value.split(","):
        try:
            if value.strip() != "*":
                ipaddress.ip_network(proxy.strip())
        except ValueError as error:
            raise ValueError(f"{error}; write 10.0.0.5 or 10.0.0.0/8") from None
    return value


def _root_path(value: str) -> str:
    path = value.strip("/")
    if path and not ROOT_PATH.fullmatch(path):
        raise ValueError(f"{value[:80]!r} is no path; write /xclip")
    return f"/{path}" if path else ""


def _rate(value: str) -> str:
    from service.contract.rate import parse_rate

    parse_rate(value)
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    check_redis_url(value.get_secret_value())
    return value


Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Rate = Annotated[str, AfterValidator(_rate)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[Names, AfterValidator(_host_names)]
Hosts = Annotated[Names, AfterValidator(_hosts)]
Origins = Annotated[Names, AfterValidator(_origins)]
Proxies = Annotated[str, AfterValidator(_proxies)]
RootPath = Annotated[str, AfterValidator(_root_path)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
