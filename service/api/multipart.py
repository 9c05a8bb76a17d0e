"""The parts of a multipart form as tools really write them, within limits, as the bytes arrive.

python-multipart splits the stream; what is said in the headers of a part is understood here. The
one file is written to the disk and hashed on the way; texts are gathered, and decoded when somebody
asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from python_multipart.decoders import Base64Decoder, QuotedPrintableDecoder
from python_multipart.exceptions import DecodeError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.charsets import decode_text
from service.api.form import (
    CHARSET_FIELD,
    BodyLimits,
    Fields,
    Form,
    text_too_large,
    unknown_field,
)
from service.contract.errors import ApiError
from service.contract.upload import UploadWriter

MAX_PART_HEADERS = 32
MAX_PART_HEADER_BYTES = 4096
MAX_PARAMETERS = 64  # of a header of a part; file names may hold some signs that look like more
MAX_PREAMBLE_BYTES = 4096
MAX_PATH_BYTES = 1024
PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")
FOLDED = re.compile(r"invalid character (32|9) in header")
LF_LINE = re.compile(rb"[\r\n]*--[^\r\n]*\n")
LINE_ENDS = "lines of a form end with CR LF, not LF alone"


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Text(bytearray):
    """The bytes of a text field."""

    def write(self, data: bytes) -> None:
        self.extend(data)


class _WithoutBlanks:
    """Drops what base64 is broken into lines with, before the decoder."""

    def __init__(self, decoder: Base64Decoder) -> None:
        self._decoder = decoder
        self.finalize = decoder.finalize

    def write(self, data: bytes) -> None:
        self._decoder.write(data.translate(None, b" \t\r\n"))


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    name: str = ""
    filename: bytes = b""
    charset: str = ""
    after_file: bool = False
    text: _Text = field(default_factory=_Text)
    sink: _Sink | None = None  # None: the bytes mean nothing
    finalize: Callable[[], None] | None = None


class MultipartReader:
    """Reads a form from bytes that are written to it. ApiError where it breaks a limit or rule."""

    def __init__(self, boundary: bytes, limits: BodyLimits) -> None:
        self.form, self.complete = Form(), False
        self._limits = limits
        self._parts = -1  # the preamble is none
        self._text_bytes = self._head_bytes = 0
        self._texts: list[tuple[str, str, _Text]] = []  # name, charset, bytes
        self._charset = ""
        self._part = _Part()
        self._writer: UploadWriter | None = None
        self._delimiter = b"\r\n--" + boundary + b"\r\n"
        self._parser = MultipartParser(
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
        # The parser wants the first boundary at once, with nothing after it. RFC 2046 allows a text
        # before and blanks behind: so a part is begun that ends where the form begins.
        self._parser.write(b"--" + boundary + b"\r\n\r\n\r\n")

    def pieces(self, data: bytes) -> int:
        """Return about how many pieces the parser will find: lines, of headers above all."""
        return data.count(b"\r\n")

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        # Counting them is a thousand times cheaper than parsing them.
        self._check_parts(self._parts + data.count(self._delimiter))
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise ApiError("malformed_request", _explained(str(error))) from None
        except DecodeError:
            raise ApiError("bad_field", f"{self._part.name} is not valid base64") from None

    def finish(self) -> Form:
        """Return the form, whose file the caller closes."""
        if self._parts <= 0:
            raise self._no_boundary()
        if not self.complete:
            by_lf = b"\n" in self._part.header_value
            why = LINE_ENDS if by_lf else "the form ends before its last boundary"
            raise ApiError("malformed_request", why)
        self.form.decode = partial(_fields, self._texts, self._charset)
        self.form.text_bytes = self._text_bytes + self._head_bytes
        return self.form

    def close(self) -> None:
        """Drop the file."""
        if self._writer is not None:
            self._writer.close()

    # --- what the parser calls ---------------------------------------------------------------

    def _begin(self) -> None:
        self._parts += 1
        self._check_parts(self._parts)
        self._part = _Part()

    def _check_parts(self, parts: int) -> None:
        if parts > self._limits.max_parts:
            raise ApiError(
                "too_many_parts",
                f"the form has more than {self._limits.max_parts} parts; "
                "send labels as one JSON array",
            )

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]
        self._head_bytes += end - start

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]
        self._head_bytes += end - start

    def _header_end(self) -> None:
        part = self._part
        if b"\n" in part.header_value:
            raise ApiError("malformed_request", LINE_ENDS)
        part.headers[bytes(part.header_name).lower()] = bytes(part.header_value)
        part.header_name.clear()
        part.header_value.clear()

    def _headers_finished(self) -> None:
        if self._parts == 0:
            return
        part, limits = self._part, self._limits
        kind, options = _header(part, b"content-disposition")
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise ApiError("malformed_request", "a part of the form has no name")
        part.name = name.decode("utf-8", "replace")
        part.filename = options.get(b"filename", b"")
        if part.name == limits.file_field:
            part.after_file = self._writer is not None
            if part.after_file and part.filename:
                raise _second_file(part.name)
            self._writer = self._writer or UploadWriter(limits.directory)
            self._decode(part.text if part.after_file else self._writer)
        elif part.name in limits.fields or part.name == CHARSET_FIELD:
            _, options = _header(part, b"content-type")
            part.charset = options.get(b"charset", b"").decode("latin-1")
            self._decode(part.text)
        else:
            raise unknown_field(part.name, {*limits.fields, limits.file_field})

    def _decode(self, sink: _Sink) -> None:
        """Have the part's bytes reach the sink as they were before their transfer encoding."""
        part = self._part
        coding = part.headers.get(b"content-encoding", b"identity").decode("latin-1")
        if coding.lower() != "identity":
            raise ApiError(
                "unsupported_content_type",
                f"{part.name} is compressed (Content-Encoding: {coding[:40]}); send it as it is",
            )
        header = part.headers.get(b"content-transfer-encoding", b"")
        encoding = header.strip().lower().decode("latin-1")
        if encoding in PLAIN_ENCODINGS:
            part.sink = sink
        elif encoding == "base64":
            base64 = Base64Decoder(sink)
            part.sink, part.finalize = _WithoutBlanks(base64), base64.finalize
        elif encoding == "quoted-printable":
            quoted = QuotedPrintableDecoder(sink)
            part.sink, part.finalize = quoted, quoted.finalize
        else:
            raise ApiError(
                "unsupported_content_type",
                f"{part.name} comes in the transfer encoding {encoding[:40]!r}; send it as it is",
            )

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if self._parts == 0:
            part.text += data[start:end]
            if len(part.text) > MAX_PREAMBLE_BYTES:
                raise self._no_boundary()
            return
        if part.name != self._limits.file_field:
            self._text_bytes += end - start
            if self._text_bytes > self._limits.max_text_bytes:
                raise text_too_large(self._limits)
        elif part.after_file:
            raise _second_file(part.name)
        elif not part.filename and len(part.text) <= MAX_PATH_BYTES:
            part.text += data[start:end]
        assert part.sink is not None
        part.sink.write(data[start:end])

    def _end(self) -> None:
        part = self._part
        if self._parts == 0:
            return
        if part.finalize is not None:
            part.finalize()
        if part.name == CHARSET_FIELD:
            self._charset = part.text.decode("latin-1").strip()
        elif part.name != self._limits.file_field:
            self._texts.append((part.name, part.charset, part.text))
        elif part.after_file:
            return  # a second file field, in which nothing was chosen
        elif self._writer is not None and not self._writer.size and not part.filename:
            self._writer.close()  # a form in which no file was chosen
            self._writer = None
        elif _is_path(part.text):
            raise ApiError(
                "bad_field",
                f"{part.name} is a text, not a file; with curl write @ before the file's name: "
                f"-F {part.name}=@clip.mp4",
            )
        elif self._writer is not None:
            self.form.upload = self._writer.finish()

    def _all_done(self) -> None:
        self.complete = self._parts > 0
        self._part = _Part()

    def _no_boundary(self) -> ApiError:
        why = "the body does not begin with the boundary that its Content-Type names"
        return ApiError("malformed_request", LINE_ENDS if LF_LINE.match(self._part.text) else why)


def _header(part: _Part, name: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return what a header of a part says, and its parameters."""
    value = part.headers.get(name, b"")
    if value.count(b";") > MAX_PARAMETERS:
        raise ApiError(
            "malformed_request", f"a header of a part has over {MAX_PARAMETERS} parameters"
        )
    return parse_options_header(value)


def _explained(error: str) -> str:
    """Say what is wrong with a form in whose bytes the parser found this."""
    if FOLDED.search(error):
        return "a header of a part goes on in a second line; write it in one"
    return f"the body is not a well-formed multipart form: {error}"


def _second_file(name: str) -> ApiError:
    return ApiError("duplicate_field", f"{name} is given twice; send one clip")


def _is_path(text: bytearray) -> bool:
    """Return whether this is the name of a file, sent in place of it; no video is such a line."""
    if not 0 < len(text) <= MAX_PATH_BYTES:
        return False
    try:
        return text.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _fields(texts: list[tuple[str, str, _Text]], charset: str) -> Fields:
    fields: Fields = {}
    for name, own, text in texts:
        fields.setdefault(name, []).append(decode_text(name, own or charset, text))
    return fields
