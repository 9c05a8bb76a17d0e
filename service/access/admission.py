"""Admit or refuse at once, by how many requests are in and how long they take."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

from service.contract.errors import ApiError

SMOOTHING = 0.1  # weight of the newest request in the running mean
LONGEST_RETRY_S = 60


class Admission:
    """Count uploads, and requests that are being answered; refuse the next one over a limit.

    A request has a place among the uploads until its body is in, then one among those that are
    being answered: slow senders never take a place from work that could be done.
    """

    def __init__(
        self,
        max_in_flight: int,
        max_uploads: int,
        deadline_s: float,
        max_uploads_per_client: int | None = None,
    ) -> None:
        self.max_in_flight, self.max_uploads = max_in_flight, max_uploads
        self.max_uploads_per_client = max_uploads_per_client or max_uploads
        self.deadline_s = deadline_s
        self.uploading = self.answering = 0
        self.draining = False
        self._uploading_by: Counter[str] = Counter()
        self._seconds_each = 0.0  # from one answer to the next while there is work
        self._last_end = 0.0

    @property
    def in_flight(self) -> int:
        """Number of requests that have begun and are not answered."""
        return self.uploading + self.answering

    @contextlib.contextmanager
    def upload(self, client: str) -> Iterator[None]:
        """Hold a place for this client to send a body.

        Raises:
            ApiError: `draining`; `queue_full`, also where nobody could answer the request.
        """
        if self.draining:
            raise ApiError("draining", "the server is stopping; ask again", retry_after_s=1)
        self._check_queue()
        if self.uploading >= self.max_uploads:
            raise self._refusal(f"{self.uploading} uploads are under way")
        if self._uploading_by[client] >= self.max_uploads_per_client:
            raise self._refusal(f"{self._uploading_by[client]} uploads of yours are under way")
        self.uploading += 1
        self._uploading_by[client] += 1
        try:
            yield
        finally:
            self.uploading -= 1
            self._uploading_by[client] -= 1
            if not self._uploading_by[client]:
                del self._uploading_by[client]

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Hold a place among the requests that are answered.

        Raises:
            ApiError: `queue_full`.
        """
        self._check_queue()
        if not self.answering:
            self._last_end = time.monotonic()
        self.answering += 1
        try:
            yield
        finally:
            self.answering -= 1
            self._learn()

    def _check_queue(self) -> None:
        """Refuse when full, or when the deadline would pass before the queue is done."""
        too_late = self.answering * self._seconds_each > self.deadline_s
        if self.answering >= self.max_in_flight or too_late:
            raise self._refusal(f"{self.answering} requests are waiting")

    def _refusal(self, why: str) -> ApiError:
        wait_s = math.ceil(self.answering * self._seconds_each)
        return ApiError(
            "queue_full",
            f"{why}; ask again later",
            retry_after_s=min(max(wait_s, 1), LONGEST_RETRY_S),
        )

    def _learn(self) -> None:
        now = time.monotonic()
        gap, self._last_end = now - self._last_end, now
        self._seconds_each += SMOOTHING * (gap - self._seconds_each)
