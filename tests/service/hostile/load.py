"""Requests as bytes on plain connections: a sender that costs little beside what it measures."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one request: its status (0 where none came) and how long it took."""

    status: int
    began: float
    seconds: float
    body: bytes = b""


def request(video: bytes, fields: dict[str, str] | list[tuple[str, str]]) -> bytes:
    """POST /classify on a connection of its own; pairs may name a field more than once."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (fields.items() if isinstance(fields, dict) else fields)
    ]
    if video:
        parts.append('--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n')
    body = "".join(parts).encode() + (video + b"\r\n" if video else b"") + b"--b--\r\n"
    head = (
        "POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def send(port: int, data: bytes, source: str = "127.0.0.1") -> Outcome:
    """One request and its answer; who is refused early need not send it all."""
    began = time.monotonic()
    answer = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        try:
            writer.write(data)
            answer = await reader.read(-1)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return Outcome(status, began, time.monotonic() - began, body)
