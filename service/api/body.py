"""The body of a request, read from the socket within limits of size and time, whatever is claimed.

It never lies in memory: a clip is written to the disk as it arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from python_multipart.multipart import parse_options_header

from service.api.form import BodyLimits, Form
from service.api.json_body import JsonBody, JsonReader
from service.api.multipart import MultipartReader
from service.api.urlencoded import UrlencodedReader
from service.contract.errors import ApiError

MAX_BOUNDARY_BYTES = 200
MAX_TYPE_BYTES = 1024  # of a Content-Type: a boundary, and what else clients say
SEND_WITHIN_S = 10.0  # how long a sender is given before it is measured …
LEAST_BYTES_PER_S = 4 << 10  # … and what must arrive on average from then on
# Small bodies are parsed where they arrive. What is larger may have to wait for the disk, and must
# not make others wait with it.
IN_THREAD_AFTER_BYTES = 64 << 10
# What falls into many pieces costs more to parse than to receive: it has to wait for its turn …
MANY_PIECES = 64
# … unless there is so little of it in all that a turn, which may be long in coming, is worth more:
# so many pieces of a body, and texts of so many bytes together.
FEW_PIECES = 256
SMALL_BYTES = 1 << 10

# Awaits a call, made in a thread when it is the turn of whose body it is.
InTurn = Callable[[Callable[[], Any]], Awaitable[Any]]


class _Reader(Protocol):
    complete: bool

    def pieces(self, data: bytes, /) -> int: ...
    def write(self, data: bytes) -> None: ...
    def finish(self) -> Form | JsonBody: ...
    def close(self) -> None: ...


async def read_body(
    stream: AsyncIterator[bytes],
    headers: Mapping[str, str],
    limits: BodyLimits,
    in_turn: InTurn = asyncio.to_thread,
) -> Form | JsonBody:
    """Read the form or the JSON of a request; the caller closes it.

    Args:
        stream: The body as it arrives.
        headers: The request's, by names in lower case.
        limits: Bounds on size and time; nothing is read beyond the chunk that breaks one.
        in_turn: Makes a call that takes long, in a thread.

    Raises:
        ApiError: Says which limit or rule was broken, and what to send instead.
    """
    reader = _reader(headers, limits)
    length = headers.get("content-length", "")
    if length.isdecimal():
        _check_size(int(length), limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _read(reader, stream, limits, in_turn)
    except BaseException as error:
        reader.close()
        if isinstance(error, TimeoutError):
            raise ApiError(
                "upload_timeout", f"the upload took longer than {limits.timeout_s:g} s"
            ) from None
        raise


def _reader(headers: Mapping[str, str], limits: BodyLimits) -> _Reader:
    """Choose what reads a body of this type."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(
            "unsupported_content_type",
            f"the body is compressed (Content-Encoding: {coding[:40]}); send it as it is: "
            "video does not shrink",
        )
    declared = headers.get("content-type", "")
    if len(declared) > MAX_TYPE_BYTES:
        raise ApiError(
            "unsupported_content_type", f"the Content-Type is over {MAX_TYPE_BYTES} bytes"
        )
    kind, options = parse_options_header(declared)
    if kind == b"application/x-www-form-urlencoded":
        return UrlencodedReader(limits)
    if kind == b"application/json":
        return JsonReader(limits)
    boundary = options.get(b"boundary", b"")
    if kind == b"multipart/form-data" and not boundary:
        raise ApiError(
            "unsupported_content_type",
            "the Content-Type names no boundary; do not set that header: the library that writes "
            "the form sets it, boundary and all",
        )
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise ApiError(
            "unsupported_content_type",
            "send JSON, or a form (multipart/form-data with a boundary), as "
            "curl -F video=@clip.mp4 "
            '-F \'labels=["a cat", "a dog"]\' does',
        )
    return MultipartReader(boundary, limits)


async def _read(
    reader: _Reader, stream: AsyncIterator[bytes], limits: BodyLimits, in_turn: InTurn
) -> Form | JsonBody:
    """Write the body to the reader as it arrives; return what it has read."""
    received, pieces, waited_s = 0, 0, 0.0
    chunks = aiter(stream)
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(limits.idle_timeout_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise ApiError(
                "upload_timeout", f"nothing arrived for {limits.idle_timeout_s:g} s"
            ) from None
        waited_s += time.monotonic() - began
        received += len(chunk)
        _check_size(received, limits)
        _check_pace(received, waited_s)
        if reader.complete:
            continue  # what follows the last boundary means nothing (RFC 2046, 5.1.1)
        these = reader.pieces(chunk)
        pieces += these
        many = these > MANY_PIECES and pieces > FEW_PIECES
        await _do(partial(reader.write, chunk), received, in_turn if many else None)
    # Nothing is left to parse but texts, which are when somebody asks for them.
    body: Form | JsonBody = await _do(reader.finish, received, None)
    return body


async def _do(call: Callable[[], Any], received: int, in_turn: InTurn | None) -> Any:
    """Make a call where it holds up nobody else."""
    if in_turn is not None:
        return await in_turn(call)
    if received > IN_THREAD_AFTER_BYTES:
        return await asyncio.to_thread(call)
    return call()


def _check_pace(received: int, seconds: float) -> None:
    if received < LEAST_BYTES_PER_S * (seconds - SEND_WITHIN_S):
        raise ApiError(
            "upload_timeout",
            f"the upload comes at less than {LEAST_BYTES_PER_S} bytes a second; send a smaller one",
        )


def _check_size(received: int, limits: BodyLimits) -> None:
    if received > limits.max_body_bytes:
        raise ApiError(
            "upload_too_large",
            f"the request is over {limits.max_body_bytes} bytes; send a shorter or smaller video",
        )
