"""The charsets that clients write text fields in."""

from __future__ import annotations

import codecs
from encodings import normalize_encoding
from encodings.aliases import aliases

from service.contract.errors import ApiError

# What clients declare of texts that are ASCII more often than not, by every name of it. Python is
# not asked about others: it keeps for good each name that it does not know.
CODECS = ("utf_8", "utf_16", "ascii", "latin_1", "cp1252")
CODEC_OF = {name: codec for name, codec in aliases.items() if codec in CODECS}
CODEC_OF |= dict(zip(CODECS, CODECS, strict=True))
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(name: str, charset: str, text: bytearray) -> str:
    """Return the text of the field of this name; an empty charset is UTF-8.

    Raises:
        ApiError: `bad_field`, where the charset is none of those taken or the text is not of it.
    """
    if text.startswith(UTF16_MARKS):  # a file of labels, as Windows saves it
        charset = "utf-16"
    codec = CODEC_OF.get(normalize_encoding(charset or "utf-8").lower())
    if codec is None:
        raise ApiError("bad_field", f"{name} is in the charset {charset[:40]!r}; send UTF-8")
    try:
        return text.decode("utf-8-sig" if codec == "utf_8" else codec)
    except UnicodeDecodeError:
        raise ApiError("bad_field", f"{name} is not {charset[:40] or 'UTF-8'} text") from None
