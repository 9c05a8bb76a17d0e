"""Who gets in: decided at once, by how many are in, whose they are and how long they take."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping

from service.access.receiving import Receiving
from service.contract.errors import LONGEST_RETRY_S, ApiError
from service.sharing.lately import Lately
from service.sharing.shares import Full, Shares

STUCK_AFTER_S = 10.0  # all places taken, and none of them given back
GIVES_WAY_AFTER_S = 2.0  # until then nobody can tell how fast a body comes


class Admission:
    """Counts uploads, and requests that are being answered; over a limit, the next is refused.

    A request has a place among the uploads until its body is in, then one among those that are
    being answered: slow senders never take a place from work that could be done. Each client has
    its share of both (`service.sharing`), and where all uploads are taken the slowest gives way to
    a client who has none.
    """

    def __init__(
        self,
        max_in_flight: int,
        max_uploads: int,
        deadline_s: float,
        max_uploads_per_client: int | None = None,
        max_question_bytes: int = sys.maxsize,
    ) -> None:
        self.deadline_s = deadline_s
        self.draining = False
        self._uploads = Shares(max_uploads, max_uploads_per_client)
        self._receiving: set[Receiving] = set()
        self._work = Shares(max_in_flight)
        self._long = Shares(max(1, max_in_flight // 2))
        # What workers and the network can do until the deadline, by what a request takes of them.
        self._milliseconds = Shares(int(1000 * deadline_s), in_turn=True)
        # Half of it is there for whatever holds a place, the other half for who needs more.
        self._large = Shares(max_question_bytes // 2)
        self._small_bytes = self._large.total // (max_in_flight + max_uploads)
        self._takes = Lately()  # from one answer to the next while there is work
        self._last_end = 0.0

    @property
    def max_in_flight(self) -> int:
        """Most requests that are answered at once."""
        return self._work.total

    @property
    def uploading(self) -> int:
        """Requests whose body is coming in."""
        return self._uploads.held

    @property
    def answering(self) -> int:
        """Requests that are answered, or wait for it."""
        return self._work.held

    @property
    def in_flight(self) -> int:
        """Requests that have begun and are not answered."""
        return self.uploading + self.answering

    @property
    def stuck(self) -> bool:
        """Whether nobody can get in and nothing moves."""
        return max(self._uploads.stuck_s, self._work.stuck_s) > STUCK_AFTER_S

    @contextlib.contextmanager
    def upload(self, client: str) -> Iterator[Receiving]:
        """Hold a place for this client to send a body; refused, too, where none could answer it."""
        if self.draining:
            raise ApiError("draining", "the server is stopping; ask again", retry_after_s=1)
        self._check_queue(client)
        self._make_room_for(client)
        try:
            self._uploads.take(client)
        except Full as full:
            whose = f"{full.held} uploads of yours" if full.own else f"{self.uploading} uploads"
            raise self._refusal(f"{whose} are under way") from None
        receiving = Receiving(client)
        self._receiving.add(receiving)
        try:
            yield receiving
        finally:
            if not receiving.gave_way:
                self._end(receiving)

    def _make_room_for(self, client: str) -> None:
        """Where all places are taken, have the slowest body give way to a client who has none.

        Those of clients who send several go first.
        """
        if self.uploading < self._uploads.total or self._uploads.held_by(client):
            return
        known = [r for r in self._receiving if r.still_comes and r.waited_s >= GIVES_WAY_AFTER_S]
        if known:
            slowest = min(known, key=lambda r: (self._uploads.held_by(r.client) == 1, r.pace))
            slowest.give_way()
            self._end(slowest)

    def _end(self, receiving: Receiving) -> None:
        self._receiving.discard(receiving)
        self._uploads.give_back(receiving.client)

    @contextlib.contextmanager
    def question(self, client: str, nbytes: int) -> Iterator[None]:
        """Hold memory for this client's labels, and what comes of them; ApiError without it.

        A small question has it in any case.
        """
        if nbytes <= self._small_bytes:
            yield
            return
        try:
            self._large.check(client, nbytes)
        except Full as full:
            whose = "questions of yours" if full.own else "questions"
            raise self._refusal(f"{whose} with many labels are being answered") from None
        with self._large.hold(client, nbytes):
            yield

    @contextlib.contextmanager
    def work(self, client: str, *, long: bool = False) -> Iterator[None]:
        """Hold a place for this client among the requests being answered; ApiError without one.

        `long` work takes minutes, and has half of the places at most; none of the seconds until the
        deadline, which is not its own.
        """
        self._check_queue(client)
        brief = self._milliseconds.hold(client, self._milliseconds_each(client))
        with self._held_long(client) if long else brief, self._work.hold(client):
            yield

    @contextlib.contextmanager
    def _held_long(self, client: str) -> Iterator[None]:
        try:
            self._long.check(client)
        except Full as full:
            whose = f"{full.held} videos of yours" if full.own else f"{self._long.held} videos"
            raise self._refusal(f"{whose} are waiting") from None
        with self._long.hold(client):
            yield

    @contextlib.contextmanager
    def paced(self, client: str) -> Iterator[None]:
        """Learn, for the length of the work of a request, how long this client's take.

        That ends before its answer is sent: who reads slowly keeps nobody from being served.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            # Since the answer before, which may have been long ago where little is asked.
            now = time.monotonic()
            self._takes.note(client, now - max(began, self._last_end))
            self._last_end = now

    def _check_queue(self, client: str) -> None:
        """Refuse when full, or when the deadline would pass before it is the client's turn.

        Also what would take more than the client's share of the time until the deadline: half of
        the seconds of workers and network that there are, for one alone.
        """
        try:
            self._work.check(client)
            self._milliseconds.check(client, self._milliseconds_each(client))
        except Full as full:
            count = self._work.held_by(client) if full.own else self.answering
            whose = "requests of yours" if full.own else "requests"
            raise self._refusal(f"{count} {whose} are waiting") from None
        if self._seconds_for(self._work.ahead_of(client)) > self.deadline_s:
            raise self._refusal(f"{self.answering} requests are waiting")

    def _milliseconds_each(self, client: str) -> int:
        """Reckon by the client's own requests: another's dear ones make nobody's share smaller."""
        return max(1, round(1000 * self._takes.known(client)))

    def _seconds_for(self, requests: Mapping[str, int]) -> float:
        """Return what so many requests of these clients take."""
        return sum(count * self._takes.expected(client) for client, count in requests.items())

    def _refusal(self, why: str) -> ApiError:
        wait_s = math.ceil(self._seconds_for(self._work.by_client()))
        return ApiError(
            "queue_full",
            f"{why}; ask again later",
            retry_after_s=min(max(wait_s, 1), LONGEST_RETRY_S),
        )
