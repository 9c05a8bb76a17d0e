"""A form once it is read, within its bounds."""

from __future__ import annotations

import difflib
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
    text_bytes: int = 0  # of the texts as they came, with what stands around them

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
