"""A multipart form, read from the socket to the disk within limits.

The body never lies in memory: the one file part is written as it arrives and hashed on the way.
Every limit is applied to what has arrived, whatever the headers claim.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import ApiError

MAX_PARTS_BESIDE_LABELS = 64
MAX_HEADER_BYTES = 4096  # of one part


@dataclass(frozen=True)
class FormLimits:
    """Bounds of one form. `fields` are the names it may have; `file_field` is the file's."""

    fields: frozenset[str]
    file_field: str
    max_body_bytes: int
    max_parts: int
    max_field_bytes: int
    timeout_s: float
    idle_timeout_s: float
    directory: Path | None = None


@dataclass
class Upload:
    """The uploaded file: anonymous on disk, gone when closed. `sha256` is of its content."""

    file: BinaryIO
    size: int
    sha256: str

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


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
    header_bytes: int = 0
    headers: dict[str, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)


class _Reader:
    """Callbacks of the parser; what they gather is checked as it comes."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.form, self.complete = Form(), False
        self._limits, self._parts, self._field_bytes = limits, 0, 0
        self._part = _Part()
        self._file: BinaryIO | None = None
        self._size = 0
        self._hash = hashlib.sha256()
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
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise ApiError(
                "too_many_parts", f"the form has more than {self._limits.max_parts} parts"
            )
        self._part = _Part()

    def _count_header(self, data: bytes, start: int, end: int) -> bytes:
        self._part.header_bytes += end - start
        if self._part.header_bytes > MAX_HEADER_BYTES:
            raise ApiError(
                "malformed_request", f"a part's headers are over {MAX_HEADER_BYTES} bytes"
            )
        return data[start:end]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += self._count_header(data, start, end)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += self._count_header(data, start, end)

    def _header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.decode("latin-1").lower()] = bytes(part.header_value)
        part.header_name.clear()
        part.header_value.clear()

    def _headers_finished(self) -> None:
        part, limits = self._part, self._limits
        kind, options = parse_options_header(part.headers.get("content-disposition", b""))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise ApiError("malformed_request", "a part of the form has no name")
        part.name = name.decode("utf-8", "replace")
        part.is_file = part.name == limits.file_field
        if part.name not in limits.fields and not part.is_file:
            known = ", ".join(sorted({*limits.fields, limits.file_field}))
            raise ApiError(
                "unknown_field", f"there is no field {part.name[:60]!r}; the fields are: {known}"
            )
        if not part.is_file and b"filename" in options:
            raise ApiError("bad_field", f"{part.name} is text, not a file; send no filename")
        if part.is_file:
            if self._file is not None:
                raise ApiError("duplicate_field", f"{part.name} is given twice; send one clip")
            self._file = tempfile.TemporaryFile(dir=limits.directory)  # noqa: SIM115 (outlives this call)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            assert self._file is not None
            chunk = data[start:end]
            self._file.write(chunk)
            self._hash.update(chunk)
            self._size += len(chunk)
            return
        self._field_bytes += end - start
        if self._field_bytes > self._limits.max_field_bytes:
            raise ApiError(
                "upload_too_large",
                f"the text fields are over {self._limits.max_field_bytes} bytes together",
            )
        self._part.text += data[start:end]

    def _end(self) -> None:
        part = self._part
        if part.is_file:
            assert self._file is not None
            self._file.flush()  # others read it through the descriptor
            self.form.upload = Upload(self._file, self._size, self._hash.hexdigest())
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

    At most one chunk beyond the limit is read: the rest of a refused body stays in the socket,
    so the connection must be closed (`close_connection` is set on such errors).
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
    except TimeoutError:
        reader.close()
        raise _closing(
            "upload_timeout", f"the upload took longer than {limits.timeout_s:g} s"
        ) from None
    except MultipartParseError:
        reader.close()
        raise _closing(
            "malformed_request", "the body is not a well-formed multipart form"
        ) from None
    except ApiError as error:
        reader.close()
        error.close_connection = True
        raise
    except BaseException:
        reader.close()
        raise
    return reader.form


async def _feed(reader: _Reader, stream: AsyncIterator[bytes], limits: FormLimits) -> None:
    received = 0
    chunks = aiter(stream)
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks), limits.idle_timeout_s)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                "upload_timeout", f"nothing arrived for {limits.idle_timeout_s:g} s"
            ) from None
        received += len(chunk)
        _check_size(received, limits)
        if reader.complete and chunk.strip():
            raise ApiError("malformed_request", "there is more after the form's last boundary")
        if len(chunk) > 1 << 16:  # a large write may wait for the disk
            await asyncio.to_thread(reader.parser.write, chunk)
        else:
            reader.parser.write(chunk)


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type or "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise _closing(
            "unsupported_content_type",
            "send multipart/form-data with a boundary, as curl -F does",
        )
    return boundary


def _check_size(received: int, limits: FormLimits) -> None:
    if received > limits.max_body_bytes:
        raise _closing(
            "upload_too_large",
            f"the request is over {limits.max_body_bytes} bytes; send a shorter or smaller video",
        )


def _closing(code: str, detail: str) -> ApiError:
    error = ApiError(code, detail)
    error.close_connection = True
    return error
