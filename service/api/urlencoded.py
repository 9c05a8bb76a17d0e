"""The simpler of the two ways to write a form: `labels=a+cat&labels=a%20dog`, without files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from service.api.form import (
    CHARSET_FIELD,
    BodyLimits,
    Fields,
    Form,
    text_too_large,
    unknown_field,
)
from service.api.percent import percent_decoded
from service.contract.errors import ApiError

ESCAPE_TO_COME = re.compile(rb"%[0-9A-Fa-f]?\Z")


@dataclass(slots=True)
class _Field:
    name: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)
    named: bool = False  # its name has ended

    def write(self, data: bytes) -> None:
        if not self.named:
            name, equals, data = data.partition(b"=")
            self.name += _text(name)
            self.named = bool(equals)
        self.text += _text(data)


class UrlencodedReader:
    """Reads application/x-www-form-urlencoded: text fields only.

    Escapes are undone as the bytes arrive: those of four megabytes at once would hold up everybody.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self.complete = False
        self._limits = limits
        self._received = 0
        self._begun = b""  # an escape that is not all there
        self._given = [_Field()]

    def pieces(self, data: bytes) -> int:
        """Return about how many pieces there are to find."""
        return data.count(b"&") + data.count(b"%") + data.count(b"+")

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._received += len(data)
        if self._received > self._limits.max_text_bytes:
            raise text_too_large(self._limits)
        if len(self._given) + data.count(b"&") > self._limits.max_parts:
            raise ApiError(
                "too_many_parts",
                f"the form has more than {self._limits.max_parts} fields; "
                "send labels as one JSON array",
            )
        data, self._begun = self._begun + data, b""
        if begun := ESCAPE_TO_COME.search(data):
            data, self._begun = data[: begun.start()], begun[0]
        first, *others = data.split(b"&")
        self._given[-1].write(first)
        for other in others:
            self._given.append(_Field())
            self._given[-1].write(other)

    def finish(self) -> Form:
        """Return the form."""
        self._given[-1].write(self._begun)
        return Form(self._fields, text_bytes=self._received)

    def close(self) -> None:
        """Drop what has arrived."""
        self._given.clear()

    def _fields(self) -> Fields:
        fields: Fields = {}
        for given in self._given:
            try:
                name, text = given.name.decode("utf-8"), given.text.decode("utf-8")
            except UnicodeDecodeError:
                raise ApiError(
                    "bad_field", "the form is not UTF-8, percent-encoded or not"
                ) from None
            if not name and not given.named:
                continue  # nothing between two &
            if name == CHARSET_FIELD or (name == self._limits.file_field and not text):
                continue  # a charset is checked by its bytes; no file was chosen
            if name == self._limits.file_field:
                raise ApiError("bad_field", f"{name} is a file; send it as multipart/form-data")
            if name not in self._limits.fields:
                raise unknown_field(name, {*self._limits.fields, self._limits.file_field})
            fields.setdefault(name, []).append(text)
        return fields


def _text(written: bytes) -> bytes:
    return percent_decoded(written.replace(b"+", b" "))
