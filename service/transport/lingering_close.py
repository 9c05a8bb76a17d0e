"""Lingering close: a client that is still sending gets to read the answer.

A socket that is closed with bytes unread resets the connection, and a client that is still sending
may lose what was said to it before. So our side is closed first, and what comes is read and thrown
away: for a few seconds, and never more than the request might have had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LONGEST_S = 5.0


class LingeringTransport:
    """Wrap the transport of a connection: `close` lingers where something is unread.

    `unread` says whether more may come, `allowance` how many bytes may still be read, `put_off` by
    how many seconds the next of them are.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        unread: Callable[[], bool],
        allowance: Callable[[], int],
        put_off: Callable[[], float],
    ) -> None:
        self._transport, self._loop = transport, loop
        self._unread, self._allowance, self._put_off = unread, allowance, put_off
        self.left = 0  # bytes that may still be thrown away
        self.lingering = False
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._written = 0

    @property
    def taken(self) -> int:
        """Bytes that the system has taken to send them on."""
        return self._written - self._transport.get_write_buffer_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, unless closed already."""
        if not self.lingering:
            self._written += len(data)
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether it is closed, or lingers: nobody else may use it then."""
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close at once where all has been read, else linger."""
        if self.lingering:
            return
        if self._unread():
            self.linger()
        else:
            self._transport.close()

    def close_at_once(self) -> None:
        """Close without lingering, also where it lingers; what the client has not taken is dropped.

        Else the connection would stay, and count as none: as long as the client likes.
        """
        if self.lingering or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def linger(self) -> None:
        """Close the sending side; the receiving one when nothing more comes."""
        if self.is_closing():
            return
        self.left = self._allowance()
        if self.left <= 0 or not self._transport.can_write_eof():
            self._transport.close()
            return
        self.lingering = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._timer = self._loop.call_later(LONGEST_S, self._transport.close)

    def lost(self) -> None:
        """Let go of a connection that is closed: a timer would hold it for as long as it runs."""
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()

    def threw_away(self, nbytes: int) -> None:
        """Count bytes that were read and dropped; close when there were too many."""
        self.left -= nbytes
        if self.left <= 0:
            self._transport.close()
            return
        wait_s = self._put_off()
        if wait_s:
            self._transport.pause_reading()
            self._reading = self._loop.call_later(wait_s, self._transport.resume_reading)
