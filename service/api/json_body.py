"""A question as JSON. Its clip is decoded from base64 to the disk as it arrives.

The bytes are followed just far enough to know where `video.data` begins and ends. What is around it
is kept, within its bounds, and read as JSON once it is all there.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from service.api.form import BodyLimits, text_too_large
from service.contract.errors import ApiError
from service.contract.upload import Upload, UploadWriter

STRUCTURE = re.compile(rb'["{}\[\]:,]')
SIGNS = b'"{}[]:,\\'
REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
ESCAPE_TO_COME = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
LINE_BREAKS = b" \t\r\n"
MAX_DEPTH = 16
MAX_NAME_BYTES = 64
VIDEO, DATA = b"video", b"data"
HOW_TO_NAME = (
    'video is an object: {"data": "…"} with the clip in base64, or {"id": "…"} of an earlier answer'
)
NOT_BASE64 = "video.data is not base64 (RFC 4648, with its padding)"


@dataclass
class JsonBody:
    """The JSON without its clip, in place of which `video.data` is empty, and the clip."""

    text: bytes | bytearray
    upload: Upload | None = None

    @property
    def text_bytes(self) -> int:
        """Bytes of the text, as it came."""
        return len(self.text)

    def forget_texts(self) -> None:
        """Drop the text, which may be megabytes."""
        self.text = b""

    def close(self) -> None:
        """Drop the clip."""
        if self.upload is not None:
            self.upload.close()


class JsonReader:
    """Reads JSON from bytes that are written to it. ApiError where it breaks a limit."""

    def __init__(self, limits: BodyLimits) -> None:
        self.complete = False
        self._limits = limits
        self._text = bytearray()
        self._step: Callable[[bytes, int], int] = self._outside
        self._open: list[bytes] = []  # under which name each object or array stands
        self._name = b""  # of the value that comes next
        self._string = b""  # the last one that ended, if it may be a name
        self._string_begin = 0
        self._values = 0
        self._clip: _Clip | None = None

    def pieces(self, data: bytes) -> int:
        """Return how many signs there are to look at; none within the clip, as it is searched."""
        if self._step == self._in_clip:
            _, _, data = data.partition(b'"')
        return len(data) - len(data.translate(None, SIGNS))

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        at = 0
        while at < len(data):
            at = self._step(data, at)

    def finish(self) -> JsonBody:
        """Return the question, whose clip the caller closes."""
        if self._step == self._in_clip:
            raise ApiError("malformed_request", "the body ends within video.data")
        return JsonBody(self._text, self._clip.finish() if self._clip else None)

    def close(self) -> None:
        """Drop the clip."""
        if self._clip is not None:
            self._clip.close()

    # --- where the next byte stands: each step returns the position that it came to --------------

    def _outside(self, data: bytes, at: int) -> int:
        match = STRUCTURE.search(data, at)
        end = match.end() if match else len(data)
        self._keep(data[at:end])
        if match:
            self._values += 1
            if self._values > self._limits.max_values:
                raise ApiError("too_many_parts", "the JSON has too many values; send fewer labels")
            self._take(match[0])
        return end

    def _take(self, sign: bytes) -> None:
        if sign == b'"':
            self._begin_string()
        elif sign == b":":
            self._name = self._string
        else:
            if sign in b"{[":
                self._open.append(self._name)
                if len(self._open) > MAX_DEPTH:
                    raise ApiError("malformed_request", f"the JSON is over {MAX_DEPTH} levels deep")
            elif sign in b"}]" and self._open:
                self._open.pop()
            self._name = b""

    def _begin_string(self) -> None:
        self._step, self._string_begin = self._in_string, len(self._text)
        if self._open == [b""] and self._name == VIDEO:
            raise ApiError("bad_field", HOW_TO_NAME)
        if self._open == [b"", VIDEO] and self._name == DATA:
            if self._clip is not None:
                raise ApiError("duplicate_field", "video.data is given twice; send one clip")
            self._clip = _Clip(UploadWriter(self._limits.directory))
            self._step = self._in_clip

    def _in_string(self, data: bytes, at: int) -> int:
        end = REST_OF_STRING.match(data, at).end()  # type: ignore[union-attr]  # may be empty
        self._keep(data[at:end])
        if end == len(data):
            return end
        self._keep(data[end : end + 1])
        if data[end : end + 1] == b"\\":  # what it escapes comes with the next bytes
            self._step = self._escaped
        else:
            short = len(self._text) - self._string_begin <= MAX_NAME_BYTES
            self._string = bytes(self._text[self._string_begin : -1]) if short else b""
            self._step = self._outside
        return end + 1

    def _escaped(self, data: bytes, at: int) -> int:
        self._keep(data[at : at + 1])
        self._step = self._in_string
        return at + 1

    def _in_clip(self, data: bytes, at: int) -> int:
        assert self._clip is not None
        end = data.find(b'"', at)
        if end < 0:
            self._clip.write(data[at:])
            return len(data)
        self._clip.write(data[at:end], last=True)
        self._keep(b'"')
        self._step = self._outside
        return end + 1

    def _keep(self, text: bytes) -> None:
        self._text += text
        if len(self._text) > self._limits.max_text_bytes:
            raise text_too_large(self._limits)


class _Clip:
    """A JSON string in base64 that comes in pieces, decoded to the disk."""

    def __init__(self, writer: UploadWriter) -> None:
        self._writer = writer
        self._escape = b""  # begun, and not all there
        self._left = b""  # of a group of four characters
        self._padded = False

    def write(self, piece: bytes, *, last: bool = False) -> None:
        piece, self._escape = self._escape + piece, b""
        if not last and (begun := ESCAPE_TO_COME.search(piece)):
            piece, self._escape = piece[: begun.start()], begun[0]
        if b"\\" in piece:  # many write / as \/, and some + and = as numbers
            piece = _unescaped(piece)
        text = self._left + piece.translate(None, LINE_BREAKS)
        whole = len(text) if last else len(text) // 4 * 4
        text, self._left = text[:whole], text[whole:]
        if text and self._padded:
            raise ApiError("bad_field", NOT_BASE64)
        self._padded = self._padded or text.endswith(b"=")
        try:
            self._writer.write(binascii.a2b_base64(text, strict_mode=True))
        except binascii.Error:
            if not self._writer.size and text.startswith(b"data:"):
                raise ApiError(
                    "bad_field", "video.data is a data URL; send what stands behind its comma"
                ) from None
            raise ApiError("bad_field", NOT_BASE64) from None

    def finish(self) -> Upload:
        return self._writer.finish()

    def close(self) -> None:
        self._writer.close()


def _unescaped(piece: bytes) -> bytes:
    try:
        return str(json.loads(b'"' + piece + b'"', strict=False)).encode("ascii")
    except ValueError:  # UnicodeEncodeError is one
        raise ApiError("bad_field", NOT_BASE64) from None
