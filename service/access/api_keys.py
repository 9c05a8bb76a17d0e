"""The API keys of a server: a file of hashes that may change while the server runs.

A line of the file holds the SHA-256 of a key, the name it has in metrics and limits, and optionally
its own rate, such as `100/minute`. Keys are drawn with 256 random bits, so a plain hash cannot be
reversed; nobody chooses one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog

from model.files import read_bounded
from service.contract.rate import Rate, parse_rate

PREFIX = "xclip_"
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
CHECK_EVERY_S = 1.0
MOST_BYTES = 16 << 20  # a hundred thousand keys


@dataclass(frozen=True)
class ApiKey:
    """A client who may ask; `rate` None means the server's."""

    name: str
    digest: bytes
    rate: Rate | None = None


class KeyFile:
    """The keys of a file, read again when it changes.

    A file without keys lets nobody in. While a file cannot be read, the keys from before stay and
    reading is tried again every second; `stale` says so.

    Raises:
        ValueError: The file cannot be read at the start; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at_stamp = self._stamp()
        self._keys = read_keys(path)
        self._checked = time.monotonic()
        self.stale = False
        if not self._keys:
            structlog.get_logger("service").warning("no API key in the file: nobody may ask")

    def find(self, given: str) -> ApiKey | None:
        """Return whose key this is; takes as long for any number of keys.

        What the time may tell is of the hash, which nobody can aim at.
        """
        self._refresh()
        digest = _digest(given)
        key = self._keys.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def _refresh(self) -> None:
        if time.monotonic() - self._checked < CHECK_EVERY_S:
            return
        self._checked = time.monotonic()
        # Taken before reading: a change in between is then seen the next time.
        stamp = self._stamp()
        if stamp == self._read_at_stamp and not self.stale:
            return
        log = structlog.get_logger("service")
        try:
            self._keys = read_keys(self._path)
        except ValueError as error:
            if not self.stale:
                log.error("API keys not read again, those from before stay", why=str(error))
            self.stale = True
        else:
            self.stale, self._read_at_stamp = False, stamp
            log.info("API keys read again", keys=len(self._keys))

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_ino, status.st_size, status.st_mtime_ns)


def read_keys(path: Path) -> dict[bytes, ApiKey]:
    """Read the keys of a file, by their digests; none where it holds none.

    Raises:
        ValueError: The file cannot be read, or a line is wrong. The message names the line and
            never repeats it.
    """
    try:
        lines = read_bounded(path, MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: {reason}") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            keys.append(_parse_line(f"{path}, line {number}", words))
    times = Counter(key.name for key in keys)
    if twice := [name for name, count in times.items() if count > 1]:
        raise ValueError(f"{path}: {min(twice)} stands there twice")
    return {key.digest: key for key in keys}


def create_key() -> str:
    """Draw a new key."""
    return PREFIX + secrets.token_urlsafe(32)


def key_line(key: str, name: str, rate: str | None = None) -> str:
    """Return the line of a key file that lets `key` in.

    Raises:
        ValueError: `name` or `rate` is not valid.
    """
    if not NAME.fullmatch(name):
        raise ValueError("give a name of letters, digits, . _ or -")
    if rate:
        parse_rate(rate)
    return " ".join(word for word in (_digest(key).hex(), name, rate) if word)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _parse_line(where: str, words: list[str]) -> ApiKey:
    digest, name, *rest = *words, ""
    if not DIGEST.fullmatch(digest) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: must be a SHA-256 in hexadecimal, a name, and maybe a rate")
    rate = " ".join(rest).strip()
    try:
        return ApiKey(name, bytes.fromhex(digest), parse_rate(rate) if rate else None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
