"""python -m service.healthcheck: exit 0 while the server in this container can classify.

For container health checks: needs nothing but the standard library, so it costs a few milliseconds.
It asks where XCLIP_HOST and XCLIP_PORT say that the server listens; on the operators' port, where
there is one, no client can take its connections.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

from service.lifecycle.kubernetes import service_variables

TIMEOUT_S = 11.0  # readiness runs the network once, behind at most one running batch
LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = ("", "*", "::", "0.0.0.0")  # noqa: S104  # asked at the loopback


def server_url(environment: Mapping[str, str]) -> str:
    """Return the address of the server that has this environment.

    Raises:
        ValueError: XCLIP_PORT or XCLIP_OPS_PORT is no number.
    """
    links = service_variables(environment)
    ours = {name.upper(): value for name, value in environment.items() if name not in links}
    host, port = ours.get("XCLIP_HOST"), ours.get("XCLIP_PORT") or "8000"
    if ours.get("XCLIP_OPS_PORT"):
        host, port = ours.get("XCLIP_OPS_HOST") or host, ours["XCLIP_OPS_PORT"]
    number, host = int(port), (host or LOOPBACK).strip("[]")
    host = LOOPBACK if host in EVERY_ADDRESS else host
    return f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"


def check(url: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Return why the server at this address is not ready; None when it is."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/readyz", timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        return error.read(2000).decode("utf-8", "replace") or str(error)
    except OSError as error:
        return f"no answer at {url}: {error}"


def main() -> int:
    """Look once, print the reason where there is one."""
    try:
        reason = check(server_url(os.environ))
    except ValueError as error:
        reason = f"XCLIP_PORT or XCLIP_OPS_PORT: {error}"
    if reason:
        print(reason, file=sys.stderr)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
