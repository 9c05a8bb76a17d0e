"""A multipart form, read from the socket to the disk within limits.

The body never lies in memory: the one file part is written as it arrives and hashed on the way.
Every limit is applied to what has arrived, whatever the headers claim.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.contract.errors import ApiError
from service.contract.upload import Upload, UploadWriter

MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096
MAX_BOUNDARY_BYTES = 200
# Small forms are parsed where they arrive. What is larger may have to wait for the disk, and must
# not make others wait with it.
IN_THREAD_AFTER_BYTES = 1 << 20


@dataclass(frozen=True)
class FormLimits:
    """Bounds of one form. `fields` are the names it may have; `file_field` is the file's."""

    fields: frozenset[str]
    file_field: str
    max_body_bytes: int
    max_parts: int
    max_text_bytes: int
    timeout_s: float
    idle_timeout_s: float
    directory: Path | None = None


@dataclass
class Form:
    """Text fields by name, in order, and the file if there is one."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    upload: Upload | None = None

    def close(self) -> None:
        """Drop the file."""
        if self.upload is not None:
            self.upload.close()


@dataclass
class _Part:
    name: str = ""
    is_file: bool = False
    disposition: bytes = b""
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)


class _Reader:
    """Callbacks of the parser; what they gather is checked as it comes."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.form, self.complete = Form(), False
        self._limits, self._parts, self._text_bytes = limits, 0, 0
        self._part = _Part()
        self._writer: UploadWriter | None = None
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._all_done,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise ApiError(
                "too_many_parts",
                f"the form has more than {self._limits.max_parts} parts; "
                "send labels as one JSON array",
            )
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        if part.header_name.lower() == b"content-disposition":
            part.disposition = bytes(part.header_value)
        part.header_name.clear()
        part.header_value.clear()

    def _headers_finished(self) -> None:
        part, limits = self._part, self._limits
        kind, options = parse_options_header(part.disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise ApiError("malformed_request", "a part of the form has no name")
        part.name = name.decode("utf-8", "replace")
        part.is_file = part.name == limits.file_field
        if part.name not in limits.fields and not part.is_file:
            raise _unknown_field(part.name, {*limits.fields, limits.file_field})
        if not part.is_file and b"filename" in options:
            raise ApiError("bad_field", f"{part.name} is text, not a file; send no filename")
        if part.is_file:
            if self._writer is not None:
                raise ApiError("duplicate_field", f"{part.name} is given twice; send one clip")
            self._writer = UploadWriter(limits.directory)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            assert self._writer is not None
            self._writer.write(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > self._limits.max_text_bytes:
            raise ApiError(
                "upload_too_large",
                f"the text fields are over {self._limits.max_text_bytes} bytes together; "
                "send fewer or shorter labels",
            )
        self._part.text += data[start:end]

    def _end(self) -> None:
        part = self._part
        if part.is_file:
            assert self._writer is not None
            self.form.upload = self._writer.finish()
            return
        try:
            text = part.text.decode("utf-8")
        except UnicodeDecodeError:
            raise ApiError("bad_field", f"{part.name} is not UTF-8 text") from None
        self.form.fields.setdefault(part.name, []).append(text)

    def _all_done(self) -> None:
        self.complete = True


async def read_form(
    stream: AsyncIterator[bytes],
    content_type: str | None,
    content_length: str | None,
    limits: FormLimits,
) -> Form:
    """Read a form; the caller closes it. ApiError says which limit or rule was broken.

    Nothing is read beyond the chunk that breaks a limit.
    """
    boundary = _boundary(content_type)
    if content_length is not None and content_length.isdecimal():
        _check_size(int(content_length), limits)
    reader = _Reader(boundary, limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            await _feed(reader, stream, limits)
        if not reader.complete:
            raise ApiError("malformed_request", "the form ends before its last boundary")
    except BaseException as error:
        reader.close()
        if isinstance(error, TimeoutError):
            raise ApiError(
                "upload_timeout", f"the upload took longer than {limits.timeout_s:g} s"
            ) from None
        if isinstance(error, MultipartParseError):
            raise ApiError(
                "malformed_request", "the body is not a well-formed multipart form"
            ) from None
        raise
    return reader.form


async def _feed(reader: _Reader, stream: AsyncIterator[bytes], limits: FormLimits) -> None:
    received = 0
    chunks = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(limits.idle_timeout_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                "upload_timeout", f"nothing arrived for {limits.idle_timeout_s:g} s"
            ) from None
        received += len(chunk)
        _check_size(received, limits)
        if reader.complete:
            continue  # what follows the last boundary means nothing (RFC 2046, 5.1.1)
        if received > IN_THREAD_AFTER_BYTES:
            await asyncio.to_thread(reader.parser.write, chunk)
        else:
            reader.parser.write(chunk)


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type or "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise ApiError(
            "unsupported_content_type",
            "send multipart/form-data with a boundary, as curl -F does",
        )
    return boundary


def _check_size(received: int, limits: FormLimits) -> None:
    if received > limits.max_body_bytes:
        raise ApiError(
            "upload_too_large",
            f"the request is over {limits.max_body_bytes} bytes; send a shorter or smaller video",
        )


def _unknown_field(name: str, known: set[str]) -> ApiError:
    close = difflib.get_close_matches(name[:60].lower(), known, 1)
    hint = f"did you mean {close[0]}?" if close else f"the fields are: {', '.join(sorted(known))}"
    return ApiError("unknown_field", f"there is no field {name[:60]!r}; {hint}")
