"""Many clients that ask without a pause, and how they were served."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import numpy as np

Ask = Callable[[httpx.Client], object]
TIMEOUT_S = 300.0
# Plain HTTP: without this each client reads the system's certificates, 20 ms of a processor which
# the server would be short of.
WITHOUT_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Served:
    """Answers a second until the last answer, and the milliseconds that clients waited."""

    clips_per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    answers: int
    errors: int
    first_error: str = ""


def under_load(url: str, ask: Ask, clients: int, seconds: float, least: int = 1) -> Served:
    """Ask for so long, and each client at least so often; who has asked gets his answer."""
    waits: list[float] = []
    errors: list[str] = []
    started = time.perf_counter()

    def client_loop() -> None:
        asked = 0
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=WITHOUT_TLS) as client:
            while asked < least or time.perf_counter() - started < seconds:
                began = time.perf_counter()
                asked += 1
                try:
                    ask(client)
                except httpx.HTTPError as error:
                    errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
                    continue
                waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client_loop) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    return served(waits, errors, took)


def served(waits: list[float], errors: list[str], took: float) -> Served:
    """Compute the figures; waits in seconds, none where nobody was answered."""
    p50, p99, worst = (
        (float(1e3 * np.percentile(waits, q)) for q in (50, 99, 100)) if waits else (0.0, 0.0, 0.0)
    )
    first = errors[0][:100] if errors else ""
    return Served(len(waits) / took, p50, p99, worst, len(waits), len(errors), first)
