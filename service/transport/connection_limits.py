"""Bounds on one client connection, before a request reaches the application.

uvicorn parses HTTP and runs the application. Around it stand the bounds that it has not got: on the
number of connections, on the size of a request's head and the time it may take to arrive, on
what is read of a body before the application has dealt with the bytes before, and on how slowly an
answer may be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from uvicorn import Config
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.server import ServerState

from service.access.client import client_of
from service.contract.errors import ApiError
from service.settings import Settings
from service.sharing.pace import Pace
from service.transport.beginnings import Beginnings
from service.transport.http_parser import RequestParser, too_many_connections
from service.transport.lingering_close import LONGEST_S, LingeringTransport
from service.transport.open_connections import OpenConnections

READ_BYTES = 64 << 10  # at a time; also the most that is read beyond what has been dealt with
# At a time of what is mostly framing, as chunks of a byte: it takes ten times as long to parse, and
# others go in between.
FRAMING_BYTES = 4 << 10
MAX_HEAD_BYTES = 64 << 10
READ_WITHIN_S = 10.0  # how long a reader is given before it is measured …
LEAST_BYTES_PER_S = 4 << 10  # … and what it must have taken on average
# Reads a second of what one client goes on to send after a refusal, all his connections together:
# 128 MB. Nobody needs it, and at four thousand megabytes a second there is time for nothing else.
DROPPED_READS_PER_S = 2000
STALLED_AFTER_S = 2.0  # without taking any, where others want its connection

ConnectionFactory = Callable[..., "Connection"]


def open_connections(settings: Settings) -> OpenConnections:
    """Return what counts the connections of one port, none of which is open yet."""
    proxies = _TrustedHosts(settings.trusted_proxies)
    return OpenConnections(settings.max_connections, lambda peer: peer in proxies)


def connections(settings: Settings, counted: OpenConnections) -> ConnectionFactory:
    """Return the factory that uvicorn makes connections with (its `http` option)."""

    dropped, beginnings = Pace(DROPPED_READS_PER_S, LONGEST_S), Beginnings()

    def connect(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        parser = RequestParser(config, server_state, app_state, _loop)
        most = settings.max_upload_bytes + READ_BYTES
        return Connection(parser, settings.header_timeout_s, most, counted, dropped, beginnings)

    return connect


class Connection(asyncio.BufferedProtocol):
    """Pass to uvicorn's protocol what is within bounds.

    A buffered protocol, so that the size of each read is ours: nothing is read that nobody wants.
    """

    def __init__(
        self,
        parser: RequestParser,
        head_timeout_s: float,
        most_bytes: int,
        counted: OpenConnections,
        dropped: Pace,
        beginnings: Beginnings,
    ) -> None:
        self._parser, self._head_timeout_s = parser, head_timeout_s
        self._open, self._dropped, self._beginnings = counted, dropped, beginnings
        self._most_bytes, self._read = most_bytes, 0  # of one request
        self._ahead = 0  # bytes since requests wait for the answer to one before them
        self._buffer = bytearray(READ_BYTES)
        self._room = FRAMING_BYTES  # of the next read
        self._fruitless = 0  # bytes since the last that could be dealt with
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._reader_timer: asyncio.TimerHandle | None = None
        self._unread_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being received in its body, or answered."""
        return self._parser.busy and not self._parser.put_off

    @property
    def stalled(self) -> bool:
        """Whether its answer has lain ready for a while, and the client does not take it."""
        since = self._unread_since
        return since is not None and time.monotonic() - since >= STALLED_AFTER_S

    def give_way(self) -> None:
        """Close where nothing is being done, without waiting for the client."""
        self._parser.give_way()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, and start the clock of its first head."""
        parser = self._parser
        self._transport = LingeringTransport(
            cast(asyncio.Transport, transport),
            parser.loop,
            lambda: parser.body_unread,
            lambda: self._most_bytes - self._read,
            lambda: self._dropped.wait_s(client_of(self._address)),
        )
        parser.connection_made(cast(asyncio.Transport, self._transport))
        self._address = parser.client[0] if parser.client else ""
        may = self._open.enter(self, self._address)
        parser.health_only = may is None
        if may is False:
            parser.refuse(too_many_connections(), linger=False)
        self._watch_head()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next read."""
        if self._transport.lingering:
            room = self._transport.left
        else:
            room = min(self._room, READ_BYTES - (self._ahead if self._parser.pipeline else 0))
        return memoryview(self._buffer)[: max(1, room)]

    def buffer_updated(self, nbytes: int) -> None:
        """Deal with what was read, the first of it when it is the client's turn."""
        self._open.used(self)
        if self._transport.lingering:
            self._transport.threw_away(nbytes)
            return
        if self._transport.is_closing():
            return
        if self._begun:
            self._parse(nbytes)
        else:
            self._begun = True
            self._transport.pause_reading()
            client, begin = client_of(self._address), partial(self._begin, nbytes)
            self._beginnings.put(self._parser.loop, client, begin)

    def _parse(self, nbytes: int) -> None:
        """Parse what was read, and stop reading while the application is behind."""
        parser = self._parser
        requests = parser.requests
        if not parser.pipeline:  # what waited has had its turn
            self._ahead = 0
        self._read += nbytes
        parser.data_received(bytes(memoryview(self._buffer)[:nbytes]))
        if parser.requests != requests:
            self._read = nbytes
        self._room = FRAMING_BYTES if self._is_framing(nbytes) else READ_BYTES
        self._fruitless = self._fruitless + nbytes if self._bore_nothing() else 0
        if self._fruitless > MAX_HEAD_BYTES:
            parser.refuse(
                ApiError("headers_too_large", f"the headers are over {MAX_HEAD_BYTES} bytes")
            )
        self._pause_or_read_on(nbytes)
        self._watch_head()

    def _begin(self, nbytes: int) -> None:
        """Parse the first that came, unless the connection is closed by now."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._parse(nbytes)

    def _is_framing(self, nbytes: int) -> bool:
        """Return whether most of what was read is no body."""
        cycle = self._parser.cycle
        return cycle is None or 2 * len(cycle.body) < nbytes

    def _pause_or_read_on(self, nbytes: int) -> None:
        """Stop reading while the application is behind: until it asks for more.

        uvicorn stops at a request that comes before its turn. A little is read on, or nobody would
        see that the client hangs up while it is answered.
        """
        parser = self._parser
        self._ahead = self._ahead + nbytes if parser.pipeline else 0
        if 0 < self._ahead < READ_BYTES:
            parser.flow.resume_reading()
        elif self._ahead or (parser.cycle is not None and parser.cycle.body and not parser.broken):
            parser.flow.pause_reading()

    def _bore_nothing(self) -> bool:
        """Return whether what was read only piles up: an unfinished head or trailer."""
        parser = self._parser
        if parser.head_open or parser.cycle is None:
            return True
        return parser.cycle.more_body and not parser.cycle.body

    def eof_received(self) -> bool:
        """Close: half-open connections are not kept."""
        self._parser.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what waits for the client."""
        self._open.leave(self)
        self._transport.lost()
        self._stop_watching()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._parser.connection_lost(exc)
        self._buffer = bytearray()  # at once: the rest of this may wait for a collection

    def pause_writing(self) -> None:
        """Stop writing while the client does not read, and look how fast it does."""
        self._parser.pause_writing()
        self._unread_since = time.monotonic()
        if self._reader_timer is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        """Write again."""
        self._parser.resume_writing()
        self._unread_since = None

    # --- the reader's pace -------------------------------------------------------------------

    def _watch_reader(self) -> None:
        loop, taken = self._parser.loop, self._transport.taken
        self._reader_timer = loop.call_later(READ_WITHIN_S, self._look_at_reader, taken)

    def _look_at_reader(self, taken_before: int) -> None:
        """Cut off who takes less than the least rate of what lies ready."""
        self._reader_timer = None
        if not self._transport.get_write_buffer_size():
            return
        if self._transport.taken - taken_before < LEAST_BYTES_PER_S * READ_WITHIN_S:
            self._transport.abort()
        else:
            self._watch_reader()

    # --- the head's time ---------------------------------------------------------------------

    def _watch_head(self) -> None:
        """Run the clock while a head is due, from its first byte (or the connection's start)."""
        if not self._parser.head_open:
            self._stop_watching()
        elif self._timer is None:
            loop = self._parser.loop
            self._timer = loop.call_later(self._head_timeout_s, self._head_is_late)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if not self._parser.transport.is_closing():
            self._parser.refuse(
                ApiError("upload_timeout", f"no headers within {self._head_timeout_s:g} s"),
                linger=False,
            )
