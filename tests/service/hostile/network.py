"""A network of one's own, in which every address of a /64 is there to come from."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.conftest import missing

Result = TypeVar("Result")
CLONE_NEWNET = 0x40000000
SETUP = (
    "ip link set lo up",
    "ip -6 route add local 2001:db8::/32 dev lo",
    "sysctl -q net.ipv6.ip_nonlocal_bind=1",
)


def in_own_network(call: Callable[[], Result]) -> Result:
    """Run a call, and the processes that it starts, where only the loopback is."""

    def run() -> Result:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            missing(f"a network of one's own ({os.strerror(ctypes.get_errno())})")
        for command in SETUP:
            subprocess.run(command.split(), check=True)
        return call()

    # A thread of its own: the network is the thread's, and ends with it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
