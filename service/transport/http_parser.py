"""HTTP/1.1 requests as uvicorn parses them, with every ambiguity refused and every upgrade ignored.

A proxy in front and this server must agree where each request ends: where they do not, the bytes of
one client's body are answered as another's request (request smuggling). llhttp is strict about
lengths, chunks and line ends; what it leaves open is closed here.
"""

from __future__ import annotations

import asyncio
import http
import re
from typing import Any, TypeVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.problems import problem
from service.contract.errors import ApiError
from service.transport.lingering_close import LingeringTransport

MAX_HEADERS = 200
# Of the target, and of each header: the longest that others take, and what their parts cost to read
# is little.
MAX_FIELD_BYTES = 8 << 10
# Requests on one connection that wait for the answer to one before them; fewer, where they have
# more than MAX_HEADERS together.
MAX_WAITING = 20
MAPPED = "::ffff:"
HEALTH = (b"/healthz", b"/readyz")
VERSIONS = ("1.1", "1.0")
# A name, an address, an IPv6 address in brackets; or nothing, where the target names no host.
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+;=%-]*)(:\d*)?", re.ASCII)


class RequestParser(HttpToolsProtocol):
    """Parse as uvicorn does, but strictly, and answer refusals in the API's form."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # uvicorn's own reads on after `Connection: close`.
        self.parser = httptools.HttpRequestParser(self)
        self.head_open = True
        self.requests = 0
        self.broken = False  # nothing of what follows has a meaning
        self._upgrade_offered = False
        self.health_only = False
        self._answered: RequestResponseCycle | None = None  # `cycle` is the one that came last

    @property
    def busy(self) -> bool:
        """Whether a request is being received in its body, or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def put_off(self) -> bool:
        """Whether a refusal waits for its turn; nothing is done for what comes behind it."""
        cycle = self._answered
        return cycle is not None and bool(cycle.scope.get("state", {}).get("put_off"))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; a client over IPv4 has its own address on a socket for both, too."""
        super().connection_made(transport)
        self.client, self.server = _as_ipv4(self.client), _as_ipv4(self.server)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered.

        uvicorn tells the one that came last, which waits where a client does not wait for answers.
        """
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)
        # Where the client has reset the connection uvicorn leaves it running, and all that hangs on
        # it in memory.
        self._unset_keepalive_if_required()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Parse; after what is no HTTP nothing more is."""
        if self.broken:
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__  # what one of the callbacks below raised
            if not isinstance(cause, ApiError):
                cause = ApiError("malformed_request", f"this is no valid HTTP request: {error}")
            self.refuse(cause)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, which takes a head that offers an upgrade for a request without a body.

        RFC 9110 (7.8) lets a server ignore the offer. So such a head is parsed once more without
        its `Upgrade`, and what follows belongs to that request.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
                head = self._head_without_upgrade()
                self._upgrade_offered = False
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    # --- what the parser calls ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.head_open = True
        self.requests += 1
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        super().on_url(url)
        self._check_length("address", self.url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer's fields come here too, and mean nothing."""
        if not self.head_open:
            return
        if len(self.headers) >= MAX_HEADERS:
            raise ApiError("headers_too_large", f"more than {MAX_HEADERS} headers")
        self._check_length("header", value)
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the application, if the head can be read in one way only."""
        self.head_open = False
        self._check_version_and_host()
        self._check_framing()
        self.url = _path_and_query(self.url)
        if self.health_only and self.url.partition(b"?")[0] not in HEALTH:
            raise too_many_connections()
        if self.parser.should_upgrade():
            self._upgrade_offered = True  # the parser is about to stop
            return
        if self._too_many_wait():  # the last of them is told that it is the last
            raise ApiError("queue_full", "too many requests at once on this connection")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request, unless it is the one that is parsed once more."""
        if not self._upgrade_offered:
            super().on_message_complete()

    def _check_length(self, what: str, text: bytes) -> None:
        if len(text) > MAX_FIELD_BYTES:
            raise ApiError("headers_too_large", f"one {what} is over {MAX_FIELD_BYTES} bytes")

    def _too_many_wait(self) -> bool:
        headers = [len(list(cycle.scope["headers"])) for cycle, _ in self.pipeline]
        return len(headers) == MAX_WAITING or sum(headers) > MAX_HEADERS

    def _check_version_and_host(self) -> None:
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise ApiError("malformed_request", "this server speaks HTTP/1.1 and HTTP/1.0")
        if version == "1.0":
            self.expect_100_continue = False
        hosts = self._values(b"host")
        if len(hosts) != 1 and (hosts or version != "1.0"):
            raise ApiError("malformed_request", f"send one Host header, not {len(hosts)}")
        if hosts and not HOST.fullmatch(hosts[0]):
            raise ApiError("malformed_request", "the Host header is no host name or address")

    def _check_framing(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise ApiError("method_not_allowed", "this server is no proxy")
        codings = self._values(b"transfer-encoding")
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            raise ApiError("malformed_request", "the only Transfer-Encoding taken is chunked")
        if codings and self.parser.get_http_version() == "1.0":
            raise ApiError("malformed_request", "HTTP/1.0 has no Transfer-Encoding")

    def _values(self, name: bytes) -> list[bytes]:
        return [value for header, value in self.headers if header == name]

    # --- refusing ----------------------------------------------------------------------------

    def refuse(self, error: ApiError, *, linger: bool = True) -> None:
        """Answer in the application's place, once, and close; requests before it come first."""
        self.broken = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:  # whole: what is wrong came after it
                cycle.keep_alive = False
                return
            if self.pipeline:  # its body is broken, and it is not its turn yet
                cycle.keep_alive = False
                self.pipeline[0] = (cycle, problem(error, ""))  # type: ignore[assignment]
                return
            cycle.disconnected = (
                True  # the application's answer, if there will be one, goes nowhere
            )
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_as_bytes(error))
        if linger:
            cast(LingeringTransport, self.transport).linger()
        else:
            cast(LingeringTransport, self.transport).close_at_once()

    def shutdown(self) -> None:
        """Close for a stop; who waits to hear of a refusal is not waited for."""
        if self.put_off:
            self.give_way()
        else:
            super().shutdown()

    def give_way(self) -> None:
        """Close at once; who waits to hear of a refusal hears it now."""
        if self.put_off:
            self.transport.write(_as_bytes(too_many_connections()))
        cast(LingeringTransport, self.transport).close_at_once()

    @property
    def body_unread(self) -> bool:
        """Return whether the client may still be sending what nobody will read."""
        return self.broken or (self.cycle is not None and self.cycle.more_body)


Address = TypeVar("Address", tuple[str, int] | None, tuple[str, int | None] | None)


def _as_ipv4(address: Address) -> Address:
    """Write `::ffff:10.0.0.1` as 10.0.0.1, as proxies that are trusted and rates have it."""
    if address is None or not ("." in address[0] and address[0].startswith(MAPPED)):
        return address
    return (address[0].removeprefix(MAPPED), address[1])


def too_many_connections() -> ApiError:
    """Make the error for a connection for which there is no room."""
    return ApiError("queue_full", "too many connections; ask again later", retry_after_s=1)


def _path_and_query(target: bytes) -> bytes:
    """Return path and query of a target, which may be absolute (`GET http://host/path`)."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise ApiError("malformed_request", "the request names no path") from None
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


def _as_bytes(error: ApiError) -> bytes:
    """Return a problem as bytes on the wire, for where there is no application."""
    response = problem(error, "")
    phrase = http.HTTPStatus(response.status_code).phrase
    lines = [f"HTTP/1.1 {response.status_code} {phrase}", "Connection: close"]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in response.raw_headers]
    return "\r\n".join([*lines, "", ""]).encode() + bytes(response.body)
