"""HTTP/1.1 requests read to the letter of RFC 9112: what a proxy in front could count at most.

Whatever the standard leaves to the recipient, or calls an error, ends the reading here. The server
may refuse more; it must never answer more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# More than one space is what section 3 allows a recipient to take.
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") +[\x21-\x7e]+ +HTTP/(1\.[01])")
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
CHUNK = re.compile(rb"([0-9A-Fa-f]+)(;[\t\x20-\x7e\x80-\xff]*)?")


@dataclass
class Reading:
    """The requests of a stream: the X-Request-ID of each whole head, in order."""

    ids: list[bytes] = field(default_factory=list)
    refusals: int = 0  # one for what is broken or unfinished; nothing after it is a request

    @property
    def answers_at_most(self) -> int:
        return len(self.ids) + self.refusals


class Malformed(Exception):
    pass


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def skip_empty_lines(self) -> None:
        while self._data[self._at : self._at + 1] in (b"\r", b"\n"):
            self._at += 1

    @property
    def ended(self) -> bool:
        return self._at == len(self._data)

    def line(self) -> bytes:
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            raise Malformed
        line, self._at = self._data[self._at : end], end + 2
        return line

    def take(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            raise Malformed
        self._at += size
        return self._data[self._at - size : self._at]

    def fields(self) -> list[tuple[bytes, bytes]]:
        pairs = []
        while line := self.line():
            match = FIELD.fullmatch(line)
            if match is None:
                raise Malformed
            pairs.append((match[1].lower(), match[2]))
        return pairs


def read_requests(data: bytes) -> Reading:
    """Count the requests of what one connection sends."""
    reading, stream = Reading(), _Stream(data)
    try:
        while True:
            stream.skip_empty_lines()
            if stream.ended:
                return reading
            if not _one_request(stream, reading):
                return reading
    except Malformed:
        reading.refusals = 1
        return reading


def _one_request(stream: _Stream, reading: Reading) -> bool:
    """Read one, and say whether another may follow."""
    line = REQUEST_LINE.fullmatch(stream.line())
    if line is None or line[1] == b"CONNECT":
        raise Malformed
    fields, version = stream.fields(), line[2]

    def values(name: bytes) -> list[bytes]:
        return [value for key, value in fields if key == name]

    hosts, lengths, codings = (
        values(name) for name in (b"host", b"content-length", b"transfer-encoding")
    )
    if len(hosts) > 1 or (not hosts and version == b"1.1"):
        raise Malformed
    if (
        len(lengths) > 1
        or (lengths and codings)
        or not all(re.fullmatch(rb"\d+", n) for n in lengths)
    ):
        raise Malformed
    if codings and ([c.lower() for c in codings] != [b"chunked"] or version == b"1.0"):
        raise Malformed
    try:
        if lengths:
            stream.take(int(lengths[0]))
        elif codings:
            _chunks(stream)
    except Malformed:  # this request may be refused, or answered early; nothing follows it
        reading.ids.append(b"")
        return False
    reading.ids.append(b"".join(values(b"x-request-id")[:1]))
    tokens = b",".join(values(b"connection")).lower().split(b",")
    return version == b"1.1" and b"close" not in [token.strip() for token in tokens]


def _chunks(stream: _Stream) -> None:
    while True:
        head = CHUNK.fullmatch(stream.line())
        if head is None:
            raise Malformed
        size = int(head[1], 16)
        if size == 0:
            stream.fields()  # the trailer
            return
        stream.take(size)
        if stream.take(2) != b"\r\n":
            raise Malformed


@dataclass(frozen=True)
class Answer:
    """A final response (not 1xx)."""

    status: int
    phrase: str
    headers: dict[str, str]
    body: bytes


def read_answers(data: bytes) -> list[Answer]:
    """The responses to requests other than HEAD, in what a connection received."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, phrase = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status.startswith("1"):
            continue
        size = int(headers.get("content-length", 0))
        answers.append(Answer(int(status), phrase, headers, data[:size]))
        data = data[size:]
    return answers
