"""Replies of Redis, refused before memory is given to what they claim.

hiredis makes an array as long as its header says before any element has come: one of two billion
would hold up the process for many seconds.
"""

from __future__ import annotations

import re
from typing import Any

import redis.exceptions as lost
from redis._parsers.hiredis import _AsyncHiredisParser

MAX_ELEMENTS = 1024  # twice as many as are ever asked for at once
HEADER_BYTES = 32
HEADER = re.compile(rb"[*%~>|](\d+)\r\n([*%~>|])?")
AGGREGATES = (b"*", b"%", b"~", b">", b"|")
NO_ARRAY = b"*-1\r\n"


class BoundedParser(_AsyncHiredisParser):
    """redis-py's parser over hiredis, which looks at the header of a reply before hiredis does."""

    async def read_from_socket(self) -> bool:
        """Read once; InvalidResponse for a reply of more parts than could have been asked for."""
        reader: Any = self._reader
        chunk = await self._receive()
        if not reader.has_data() and chunk.startswith(AGGREGATES):
            while b"\r\n" not in chunk and len(chunk) < HEADER_BYTES:
                chunk += await self._receive()
            _check_header(chunk)
        reader.feed(chunk)
        return True

    async def _receive(self) -> bytes:
        stream: Any = self._stream
        chunk: bytes = await stream.read(self._read_size)
        if not chunk:
            raise lost.ConnectionError("the connection was closed by the server")
        return chunk


def _check_header(reply: bytes) -> None:
    header = HEADER.match(reply)
    if reply.startswith(NO_ARRAY):
        return
    if header is None or int(header[1]) > MAX_ELEMENTS or header[2] is not None:
        raise lost.InvalidResponse("a reply has more parts than were asked for")
