"""Refuse requests that a browser sends for somebody else's page, or under somebody else's name.

A page of any origin can post a form to this server without asking first, and one whose host name is
turned to this server's address (DNS rebinding) could read the answers.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from service.contract.errors import ApiError

OWN_PAGE = ("same-origin", "none")


def check_origin(headers: Headers, allowed: Collection[str]) -> None:
    """Refuse a request of a page that is neither this server's nor of an allowed origin.

    Args:
        headers: Those of the request.
        allowed: Origins such as https://app.example.com, or "*" for any.

    Raises:
        ApiError: `foreign_origin`.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if "*" in allowed or origin in allowed or site in OWN_PAGE:
        return
    # Browsers leave Sec-Fetch-Site out over plain HTTP; other programs send neither.
    if site is None and (origin is None or _split(origin).netloc == headers.get("host")):
        return
    raise ApiError(
        "foreign_origin",
        "a page of another origin may not ask; the operator can allow it with XCLIP_CORS_ORIGINS",
    )


def check_host(headers: Headers, allowed: Collection[str]) -> None:
    """Refuse a request for a host that is not allowed; an empty `allowed` takes any.

    Raises:
        ApiError: `unknown_host`.
    """
    host = _split(f"//{headers.get('host', '')}").hostname or ""
    if allowed and host not in allowed:
        raise ApiError(
            "unknown_host",
            "this server does not go by that name; the operator can add it to XCLIP_ALLOWED_HOSTS",
        )


def _split(address: str) -> SplitResult:
    """Return the parts of an address, all empty for what is none, such as `http://[`."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
