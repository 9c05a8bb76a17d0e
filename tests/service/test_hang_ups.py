"""Who hangs up again and again is read later, and not at all where he has gone by then."""

from __future__ import annotations

import gc
import socket
import struct
import threading

import pytest

from service.transport import connection_limits, hang_ups
from service.transport.connection_limits import Connection
from service.transport.hang_ups import HangUps
from tests.service.conftest import RunningServer, fake_runtime, running, until

BUSY, GOOD = "127.0.0.2", "127.0.0.3"
ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
UNFINISHED = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)
WITH_A_RESET = struct.pack("ii", 1, 0)


class Noted(HangUps):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, address: str) -> None:
        super().note(address)
        self.notes.append(address)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """What is counted on the next server: after the first the next connection waits an hour."""
    monkeypatch.setattr(hang_ups, "HANG_UPS_PER_S", 1)
    monkeypatch.setattr(hang_ups, "READ_WITHIN_S", 3600.0)
    counted = Noted()
    monkeypatch.setattr(connection_limits, "HangUps", lambda: counted)
    return counted


def connect(server: RunningServer, address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), source_address=(address, 0))


def answer(server: RunningServer, address: str) -> bytes:
    with connect(server, address) as connection:
        connection.sendall(ASK)
        return connection.recv(12)


def keep_busy(counted: HangUps) -> None:
    while counted.put_off_s(BUSY) < 3599:
        counted.note(BUSY)


def put_off() -> list[Connection]:
    """Return the connections that are not read yet."""
    everything = (one for one in gc.get_objects() if type(one) is Connection)
    return [one for one in everything if one._begin_timer and not one._parser.requests]


def gone(connection: socket.socket) -> bool:
    """Whether it is closed without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def begin(connection: Connection) -> None:
    """Have its time come."""
    timer = connection._begin_timer
    assert timer is not None
    timer.cancel()
    connection._parser.loop.call_soon_threadsafe(connection._begin, len(ASK))


@pytest.mark.parametrize("with_a_reset", [False, True])
def test_hanging_up_before_the_answer_counts(noted: Noted, with_a_reset: bool) -> None:
    with running(fake_runtime()) as server:
        assert answer(server, GOOD) == b"HTTP/1.1 200"
        with connect(server, BUSY) as connection:
            connection.sendall(UNFINISHED)
            until(lambda: server.server.admission.uploading == 1)
            if with_a_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WITH_A_RESET)
        until(lambda: not server.web.server_state.connections)
    assert noted.notes == [BUSY]


def test_who_hangs_up_again_and_again_is_read_when_it_is_his_turn(noted: Noted) -> None:
    with running(fake_runtime()) as server:
        keep_busy(noted)
        with connect(server, BUSY) as connection:
            connection.sendall(ASK)
            until(lambda: len(put_off()) == 1)
            assert answer(server, GOOD) == b"HTTP/1.1 200"
            begin(put_off()[0])
            assert connection.recv(12) == b"HTTP/1.1 200"


def test_who_has_gone_by_then_is_not_read(noted: Noted) -> None:
    with running(fake_runtime()) as server:
        keep_busy(noted)
        with connect(server, BUSY) as connection:
            connection.sendall(ASK)
            until(lambda: len(put_off()) == 1)
        (gone,) = put_off()
        begin(gone)
        until(lambda: not server.web.server_state.connections)
        assert gone._parser.requests == 0


def test_what_is_put_off_gives_way(noted: Noted) -> None:
    with running(fake_runtime(), max_connections=4) as server:
        keep_busy(noted)
        with connect(server, BUSY) as first, connect(server, BUSY) as second:
            for number, connection in enumerate((first, second)):
                connection.sendall(ASK)
                until(lambda n=number: len(put_off()) == n + 1)  # type: ignore[misc]
            with connect(server, BUSY):
                assert first.recv(1) == b""


def test_who_has_gone_is_not_read_where_many_go(noted: Noted) -> None:
    """Not even the first time, when he has gone before the server gets to look."""
    may_go_on = threading.Event()
    with running(fake_runtime()) as server:
        keep_busy(noted)
        assert server.web._loop is not None
        server.web._loop.call_soon_threadsafe(may_go_on.wait)
        with connect(server, GOOD) as connection:
            connection.sendall(ASK)
            connection.shutdown(socket.SHUT_WR)
            may_go_on.set()
            assert gone(connection)


def test_nobody_behind_a_proxy_waits_for_others(noted: Noted) -> None:
    with running(fake_runtime(), trusted_proxies=BUSY) as server:
        keep_busy(noted)
        assert answer(server, BUSY) == b"HTTP/1.1 200"
