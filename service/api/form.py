"""A form, read from the socket within limits of size and time, whatever the headers claim.

The body never lies in memory: a clip is written to the disk as it arrives.
"""

from __future__ import annotations

import asyncio
import time
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from python_multipart.multipart import parse_options_header

from service.api.multipart import (
    CHARSET_FIELD,
    Form,
    FormLimits,
    MultipartReader,
    unknown_field,
)
from service.contract.errors import ApiError

__all__ = ["Form", "FormLimits", "read_form"]

MAX_BOUNDARY_BYTES = 200
SEND_WITHIN_S = 10.0  # how long a sender is given before it is measured …
LEAST_BYTES_PER_S = 4 << 10  # … and what must arrive on average from then on
# Small forms are parsed where they arrive. What is larger may have to wait for the disk, and must
# not make others wait with it.
IN_THREAD_AFTER_BYTES = 64 << 10


class _Reader(Protocol):
    complete: bool

    def write(self, data: bytes) -> None: ...
    def finish(self) -> Form: ...
    def close(self) -> None: ...


class _UrlencodedReader:
    """Reads application/x-www-form-urlencoded: text fields only."""

    def __init__(self, limits: FormLimits) -> None:
        self.complete = False
        self._limits, self._body = limits, bytearray()

    def write(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limits.max_text_bytes:
            raise ApiError(
                "upload_too_large",
                f"the text fields are over {self._limits.max_text_bytes} bytes together",
            )

    def finish(self) -> Form:
        try:
            pairs = urllib.parse.parse_qsl(
                self._body.decode("utf-8"),  # people also send it as it is, unencoded
                keep_blank_values=True,
                errors="strict",
                max_num_fields=self._limits.max_parts,
            )
        except UnicodeDecodeError:
            raise ApiError("bad_field", "the form is not UTF-8, percent-encoded or not") from None
        except ValueError:
            raise ApiError(
                "too_many_parts",
                f"the form has more than {self._limits.max_parts} fields; "
                "send labels as one JSON array",
            ) from None
        form = Form()
        for name, text in pairs:
            if name == CHARSET_FIELD or (name == self._limits.file_field and not text):
                continue  # a charset is checked by its bytes; no file was chosen
            if name == self._limits.file_field:
                raise ApiError("bad_field", f"{name} is a file; send it as multipart/form-data")
            if name not in self._limits.fields:
                raise unknown_field(name, self._limits)
            form.fields.setdefault(name, []).append(text)
        return form

    def close(self) -> None:
        self._body.clear()


async def read_form(
    stream: AsyncIterator[bytes], headers: Mapping[str, str], limits: FormLimits
) -> Form:
    """Read the form of a request; the caller closes it.

    Args:
        stream: The body as it arrives.
        headers: The request's, by names in lower case.
        limits: Bounds on size and time; nothing is read beyond the chunk that breaks one.

    Raises:
        ApiError: Says which limit or rule was broken, and what to send instead.
    """
    reader = _reader(headers, limits)
    length = headers.get("content-length", "")
    if length.isdecimal():
        _check_size(int(length), limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            received = await _feed(reader, stream, limits)
        if received > IN_THREAD_AFTER_BYTES:
            return await asyncio.to_thread(reader.finish)
        return reader.finish()
    except BaseException as error:
        reader.close()
        if isinstance(error, TimeoutError):
            raise ApiError(
                "upload_timeout", f"the upload took longer than {limits.timeout_s:g} s"
            ) from None
        raise


def _reader(headers: Mapping[str, str], limits: FormLimits) -> _Reader:
    """Choose what reads a body of this type."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(
            "unsupported_content_type",
            f"the body is compressed (Content-Encoding: {coding[:40]}); send it as it is: "
            "video does not shrink",
        )
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind == b"application/x-www-form-urlencoded":
        return _UrlencodedReader(limits)
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
            "send a form (multipart/form-data with a boundary), as curl -F video=@clip.mp4 "
            '-F \'labels=["a cat", "a dog"]\' does',
        )
    return MultipartReader(boundary, limits)


async def _feed(reader: _Reader, stream: AsyncIterator[bytes], limits: FormLimits) -> int:
    """Write the body to the reader as it arrives; return its size in bytes."""
    received, began = 0, time.monotonic()
    chunks = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(limits.idle_timeout_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return received
        except TimeoutError:
            raise ApiError(
                "upload_timeout", f"nothing arrived for {limits.idle_timeout_s:g} s"
            ) from None
        received += len(chunk)
        _check_size(received, limits)
        _check_pace(received, time.monotonic() - began)
        if reader.complete:
            continue  # what follows the last boundary means nothing (RFC 2046, 5.1.1)
        if received > IN_THREAD_AFTER_BYTES:
            await asyncio.to_thread(reader.write, chunk)
        else:
            reader.write(chunk)


def _check_pace(received: int, seconds: float) -> None:
    if received < LEAST_BYTES_PER_S * (seconds - SEND_WITHIN_S):
        raise ApiError(
            "upload_timeout",
            f"the upload comes at less than {LEAST_BYTES_PER_S} bytes a second; send a smaller one",
        )


def _check_size(received: int, limits: FormLimits) -> None:
    if received > limits.max_body_bytes:
        raise ApiError(
            "upload_too_large",
            f"the request is over {limits.max_body_bytes} bytes; send a shorter or smaller video",
        )
