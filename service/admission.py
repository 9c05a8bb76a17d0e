"""Who gets in: decided at once, by how many are in and how long they take."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from service.errors import ApiError

SMOOTHING = 0.1  # weight of the newest request in the running mean


class Admission:
    """Counts requests in flight. Over the limit, or too late for the deadline, is refused."""

    def __init__(self, max_in_flight: int, deadline_s: float) -> None:
        self.max_in_flight, self.deadline_s = max_in_flight, deadline_s
        self.in_flight = 0
        self.draining = False
        self._seconds_each = 0.0  # between two answers while the server is busy
        self._last_answer = time.monotonic()

    @contextlib.contextmanager
    def permit(self) -> Iterator[None]:
        """A place among the requests in flight; ApiError with Retry-After where there is none."""
        if self.draining:
            raise ApiError("draining", "the server is stopping; ask again", retry_after_s=1)
        wait_s = self.in_flight * self._seconds_each
        if self.in_flight >= self.max_in_flight or wait_s > self.deadline_s:
            raise ApiError(
                "queue_full",
                f"{self.in_flight} requests are waiting; ask again later",
                retry_after_s=max(1, math.ceil(min(wait_s, self.deadline_s) / 2)),
            )
        if self.in_flight == 0:
            self._last_answer = time.monotonic()
        self.in_flight += 1
        try:
            yield
            self._learn()
        finally:
            self.in_flight -= 1

    def _learn(self) -> None:
        now = time.monotonic()
        gap, self._last_answer = now - self._last_answer, now
        self._seconds_each += SMOOTHING * (gap - self._seconds_each)
