"""python -m service.healthcheck: exit 0 while the server in this container can classify.

For container health checks: needs nothing but the standard library, so it costs a few milliseconds.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 11.0  # readiness runs the network once, behind at most one running batch


def check(port: int, timeout_s: float = TIMEOUT_S) -> str:
    """An empty string, or why the server on this machine's `port` is not ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=timeout_s):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(2000).decode("utf-8", "replace") or str(error)
    except OSError as error:
        return f"no answer on port {port}: {error}"


def main() -> int:
    """Look once, print the reason where there is one."""
    reason = check(int(os.environ.get("XCLIP_PORT") or 8000))
    if reason:
        print(reason, file=sys.stderr)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
