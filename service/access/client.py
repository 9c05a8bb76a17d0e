"""Tell clients apart by address: an IPv4 address, or the /64 that an IPv6 host has to itself."""

from __future__ import annotations

import ipaddress

NOBODY = "unknown"
IPV6_PREFIX = 64


def client_of(address: str | None) -> str:
    """Return the name under which requests from `address` are counted.

    A host can take any address of its /64, so that is one client. What is no address (a proxy may
    pass on a header that holds none) is the same client for all who send such.
    """
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return NOBODY
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
