"""A form once it is read, and the simpler of the two ways to write one."""

from __future__ import annotations

import difflib
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from service.contract.errors import ApiError
from service.contract.upload import Upload

CHARSET_FIELD = "_charset_"  # of HTML: the browser fills in the form's encoding


@dataclass(frozen=True)
class BodyLimits:
    """Bounds of the body of a request.

    Attributes:
        fields: Names of the text fields that a form may have.
        file_field: Name of the file's.
        max_body_bytes: Size of all of it, as it is sent.
        max_parts: Number of parts of a form.
        max_values: Number of values, names and brackets of JSON.
        max_text_bytes: Size of everything but the clip.
        timeout_s: Seconds until it is in.
        idle_timeout_s: Seconds without a byte.
        directory: Where the clip lies meanwhile; None for the system's.
    """

    fields: frozenset[str]
    file_field: str
    max_body_bytes: int
    max_parts: int
    max_values: int
    max_text_bytes: int
    timeout_s: float
    idle_timeout_s: float
    directory: Path | None = None


Fields = dict[str, list[str]]


@dataclass
class Form:
    """Text fields, and the file if there is one.

    The texts stay the bytes that came until they are asked for: a character may take four times as
    much, and many forms may wait.
    """

    decode: Callable[[], Fields] = dict
    upload: Upload | None = None

    @cached_property
    def fields(self) -> Fields:
        """Texts by name, in order; ApiError for what is none."""
        return self.decode()

    def forget_texts(self) -> None:
        """Drop the texts, which may be megabytes."""
        self.decode = dict
        self.__dict__.pop("fields", None)

    def close(self) -> None:
        """Drop the file."""
        if self.upload is not None:
            self.upload.close()


class UrlencodedReader:
    """Reads application/x-www-form-urlencoded: text fields only."""

    def __init__(self, limits: BodyLimits) -> None:
        self.complete = False
        self._limits, self._body = limits, bytearray()

    def pieces(self, data: bytes) -> int:
        """Return about how many pieces the parser will find."""
        return data.count(b"&") + data.count(b"%") + data.count(b"+")

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._body += data
        if len(self._body) > self._limits.max_text_bytes:
            raise text_too_large(self._limits)

    def finish(self) -> Form:
        """Return the form."""
        return Form(self._fields)

    def _fields(self) -> Fields:
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
        fields: Fields = {}
        for name, text in pairs:
            if name == CHARSET_FIELD or (name == self._limits.file_field and not text):
                continue  # a charset is checked by its bytes; no file was chosen
            if name == self._limits.file_field:
                raise ApiError("bad_field", f"{name} is a file; send it as multipart/form-data")
            if name not in self._limits.fields:
                raise unknown_field(name, {*self._limits.fields, self._limits.file_field})
            fields.setdefault(name, []).append(text)
        return fields

    def close(self) -> None:
        """Drop what has arrived."""
        self._body.clear()


def text_too_large(limits: BodyLimits) -> ApiError:
    """Make the error for text fields that are too large together."""
    return ApiError(
        "upload_too_large",
        f"the text fields are over {limits.max_text_bytes} bytes together; "
        "send fewer or shorter labels",
    )


def unknown_field(name: str, known: Iterable[str]) -> ApiError:
    """Make the error for a field that there is none of, with the one that was meant."""
    known = sorted(known)
    close = difflib.get_close_matches(name[:60].lower(), known, 1)
    hint = f"did you mean {close[0]}?" if close else f"the fields are: {', '.join(known)}"
    return ApiError("unknown_field", f"there is no field {name[:60]!r}; {hint}")
