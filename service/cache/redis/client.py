"""Bytes by key in a Redis that several servers share. It may forget, be slow or be away.

Nothing here raises, and a read waits for its turn and for its answer no longer than the time-out
each: a Redis in any state costs a miss. Reads are on the way of a request; writes are queued and
done in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import redis.exceptions as lost
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.cache.redis.bounded_parser import BoundedParser
from service.cache.redis.circuit_breaker import CLUSTER, CircuitBreaker
from service.cache.redis.client_room import queue_writes, room_of
from service.cache.redis.records import Verdict
from service.cache.redis.timeouts import within
from service.cache.redis.write_behind import Entry, WriteBehind
from service.sharing.fair_places import FairPlaces

CONNECTIONS = 8
READS = CONNECTIONS - 2  # at once; one is there for writes, one to ask whether it is well
KEYS_PER_READ = 512  # about a megabyte of vectors: well within the time-out on a local network
BACKGROUND_TIMEOUT_S = 1.0  # for what no request waits for
# Two, in different slots: a Redis Cluster refuses to answer for both, however few nodes it has.
PROBE_KEYS = (b"xclip:probe:1", b"xclip:probe:2")
# Which exceptions mean what; the first that fits counts.
KINDS: tuple[tuple[str, tuple[type[Exception], ...]], ...] = (
    ("timeout", (TimeoutError, lost.TimeoutError)),
    ("authentication", (lost.AuthenticationError, lost.NoPermissionError)),
    ("loading", (lost.BusyLoadingError,)),
    (CLUSTER, (lost.MovedError, lost.AskError, lost.ClusterDownError, lost.ClusterCrossSlotError)),
    ("refused", (lost.ResponseError,)),
    ("connection", (lost.ConnectionError, OSError)),
)
OTHER_KIND = "protocol"


def _zeros(*names: str) -> Counter[str]:
    """Make a counter whose every reason is visible before it first happens."""
    return Counter(dict.fromkeys(names, 0))


@dataclass
class CacheStats:
    """Totals since the start: keys read, keys written, failed calls by kind, and what became of the
    label vectors (`values`) and clips that were found (which whoever reads them counts).
    """

    reads: Counter[str] = field(
        default_factory=lambda: _zeros("found", "absent", "skipped", "failed")
    )
    writes: Counter[str] = field(
        default_factory=lambda: _zeros("stored", "refused", "dropped", "failed")
    )
    errors: Counter[str] = field(
        default_factory=lambda: _zeros(*(kind for kind, _ in KINDS), OTHER_KIND)
    )
    values: Counter[str] = field(default_factory=lambda: _zeros(*Verdict))
    clips: Counter[str] = field(default_factory=lambda: _zeros(*Verdict))


def connection_pool(url: str, timeout_s: float) -> BlockingConnectionPool:
    """Make connections to a Redis that may go: nothing is tried twice or waits for long."""
    return BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        # Our callers' own limits come first; these end what is left of a call that was given up.
        socket_timeout=BACKGROUND_TIMEOUT_S,
        socket_connect_timeout=BACKGROUND_TIMEOUT_S,
        parser_class=BoundedParser,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )


def error_kind(error: Exception) -> str:
    """Return which of the kinds that CacheStats counts an error is."""
    return next((kind for kind, types in KINDS if isinstance(error, types)), OTHER_KIND)


class SharedCache:
    """The client of one Redis. Make it, `start()` it on the event loop, `stop()` it.

    `timeout_s` bounds the wait for a turn to read, and the read; entries are forgotten after
    `ttl_s` without a write, or what `put_many` says.
    """

    def __init__(self, url: str, *, timeout_s: float, ttl_s: float) -> None:
        self.stats = CacheStats()
        self._timeout_s, self._ttl_s = timeout_s, ttl_s
        self._pool = connection_pool(url, timeout_s)
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._circuit = CircuitBreaker(self._probe, self._changed)
        self._writer = WriteBehind(self._write)
        self._writing = asyncio.Lock()
        self._reading = FairPlaces(READS)
        self._room = 0  # for all clients, where the Redis names a bound

    @property
    def up(self) -> bool:
        """Whether it is asked now."""
        return self._circuit.closed

    @property
    def writable(self) -> bool:
        """Whether writes are tried now."""
        return self.up and not self._writer.pausing

    @property
    def state(self) -> str:
        """For people: "up", "up, writes refused: …" or "down: …"; never the URL."""
        if not self.up:
            return f"down: {self._circuit.reason}"
        return f"up, writes refused: {self._writer.refusal}" if self._writer.pausing else "up"

    def start(self) -> None:
        """Connect in the background."""
        self._circuit.start()
        self._writer.start()

    async def asked(self) -> None:
        """Wait until it has answered once, or has failed to; a second at most."""
        await self._circuit.asked.wait()

    async def stop(self) -> None:
        """Write what waits, as far as that is quick, and close the connections."""
        await self._circuit.stop()
        await self._writer.stop()
        await self._close()

    async def get_many(self, keys: Sequence[bytes], client: str = "") -> list[bytes | None]:
        """Return the values of up to KEYS_PER_READ keys; None where none came, or none in time.

        Clients read in turn. For whom that comes too late, it is no fault of the Redis.
        """
        nothing: list[bytes | None] = [None] * len(keys)
        async with contextlib.AsyncExitStack() as stack:
            place = self._reading.place(client)
            try:
                await within(self._timeout_s, stack.enter_async_context(place))
            except TimeoutError:
                self.stats.reads["skipped"] += len(keys)
                return nothing
            if not self.up:
                self.stats.reads["skipped"] += len(keys)
                return nothing
            try:
                values = await within(self._timeout_s, self._read(keys))
            except Exception as error:  # whatever a broken Redis brings about
                self._failed(error)
                self.stats.reads["failed"] += len(keys)
                return nothing
        absent = values.count(None)
        self.stats.reads["absent"] += absent
        self.stats.reads["found"] += len(keys) - absent
        return values

    def put_many(
        self, entries: Mapping[bytes, bytes], ttl_s: float | None = None, client: str = ""
    ) -> None:
        """Have the entries written soon; dropped where too much waits or nothing can be written.

        Where the Redis has no more room, it is made by the client who holds most there.
        """
        if self.writable:
            kept_s = max(1, round(ttl_s or self._ttl_s))
            kept = {key: Entry(value, kept_s, client) for key, value in entries.items()}
            self.stats.writes["dropped"] += self._writer.add(kept)
        else:
            self.stats.writes["dropped"] += len(entries)

    async def delete(self, key: bytes) -> bool:
        """Delete an entry, also one that waits to be written; tell whether it is certainly gone."""
        self._writer.discard(key)
        try:
            async with self._writing:  # what is on its way would come after
                if not self.up:  # also since it has hung for whoever was before
                    return False
                await within(BACKGROUND_TIMEOUT_S, self._delete(key))
        except Exception as error:  # as above
            self._failed(error)
            return False
        return True

    async def _delete(self, key: bytes) -> None:
        await self._redis.delete(key)

    async def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Ask for values; InvalidResponse where what comes back is not one for each key."""
        values: object = await self._redis.mget(keys)
        if not isinstance(values, list) or len(values) != len(keys):
            raise lost.InvalidResponse("MGET is not answered with a value for each key")
        if not all(value is None or isinstance(value, bytes) for value in values):
            raise lost.InvalidResponse("MGET is answered with something other than strings")
        return values

    async def _write(self, batch: Mapping[bytes, Entry]) -> str | None:
        """Write a batch; return why it was refused, if it was."""
        if not self.up:
            self.stats.writes["dropped"] += len(batch)
            return None
        pipeline = self._redis.pipeline(transaction=False)
        counts = queue_writes(pipeline, batch, self._room)
        try:
            async with self._writing:
                answers = await within(BACKGROUND_TIMEOUT_S, pipeline.execute(raise_on_error=False))
        except Exception as error:  # as above
            self._failed(error)
            self.stats.writes["failed"] += len(batch)
            return None
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        refused = sum(
            count
            for count, answer in zip(counts, answers, strict=False)
            if isinstance(answer, Exception)
        )
        self.stats.writes["stored"] += len(batch) - refused
        self.stats.writes["refused"] += refused
        if not refusals:
            return None
        self.stats.errors[error_kind(refusals[0])] += 1
        structlog.get_logger("service").warning("shared cache refuses writes", why=str(refusals[0]))
        return str(refusals[0])

    async def _probe(self) -> str | None:
        """Ask what requests will ask, on a fresh connection; return the kind of failure."""
        try:
            await self._pool.disconnect(inuse_connections=False)
            await within(BACKGROUND_TIMEOUT_S, self._read(PROBE_KEYS))
            self._room = await within(BACKGROUND_TIMEOUT_S, room_of(self._redis))
        except Exception as error:  # as above
            self.stats.errors[error_kind(error)] += 1
            return error_kind(error)
        return None

    def _failed(self, error: Exception) -> None:
        kind = error_kind(error)
        self.stats.errors[kind] += 1
        self._circuit.trip(kind)

    def _changed(self, up: bool, reason: str) -> None:
        log = structlog.get_logger("service")
        if up:
            log.info("shared cache in use")
        elif reason == CLUSTER:
            log.warning(
                "shared cache not in use: XCLIP_REDIS_URL names a Redis Cluster, which is not "
                "supported; name a single Redis (docs/deploy.md)"
            )
        else:
            log.warning("shared cache not in use", why=reason)

    async def _close(self) -> None:
        try:
            await within(BACKGROUND_TIMEOUT_S, self._pool.aclose())
        except Exception as error:  # nothing follows that could go wrong
            structlog.get_logger("service").debug("shared cache not closed", why=error_kind(error))
