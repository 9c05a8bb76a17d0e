"""Room for as many open files as connections may take, and what they bring with them."""

from __future__ import annotations

import resource

import structlog

FOR_EACH = 3  # its socket, a file that is received or sent, and that file again for a worker
BESIDE = 256  # libraries, workers, Redis


def allow_open_files(connections: int) -> None:
    """Raise this process's limit of open files to what so many connections may take.

    Many systems begin with 1024, which one client can use up: half of the connections, each with a
    file that is read slowly. More than the system allows at all is not to be had; that is logged.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FOR_EACH * connections + BESIDE
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        structlog.get_logger("service").warning(
            "fewer files may be open than connections may take: raise the limit (ulimit -Hn), or "
            "lower XCLIP_MAX_CONNECTIONS",
            allowed=allowed,
            needed=needed,
        )
