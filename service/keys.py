"""The API keys of a server: a file of hashes that may change while the server runs.

    python -m service.keys NAME [RATE]     makes a key, and the line that lets it in

A line of the file holds the SHA-256 of a key, the name it goes by in metrics and limits, and
optionally its own rate, such as `100/minute`. Keys are drawn with 256 random bits, so a plain hash
cannot be turned back; nobody chooses one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.access.rate_limits import Rate, parse_rate

PREFIX = "xclip_"
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class ApiKey:
    """Somebody who may ask; `rate` None means the server's."""

    name: str
    digest: bytes
    rate: Rate | None = None


class KeyFile:
    """The keys of a file, read again when it changes. ValueError where it cannot be read at first.

    Later a file that is gone or wrong changes nothing: the keys read before stay, and the log
    says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)
        self._looked = time.monotonic()

    def find(self, given: str) -> ApiKey | None:
        """Whose key this is. Takes as long for a wrong one as for a right one."""
        self._look()
        digest = hashlib.sha256(given.encode("utf-8", "replace")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen, log = stamp, structlog.get_logger("service")
        try:
            self._keys = read_keys(self._path)
        except ValueError as error:
            log.error("API keys not read again, those from before stay", why=str(error))
        else:
            log.info("API keys read again", keys=len(self._keys))

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file. ValueError names the line that is wrong, and never repeats it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: {reason}") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            keys.append(_key(f"{path}, line {number}", words))
    names = [key.name for key in keys]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path}: {min(twice)} stands there twice")
    if not keys:
        raise ValueError(f"{path}: no key in it; python -m service.keys NAME makes one")
    return tuple(keys)


def _key(where: str, words: list[str]) -> ApiKey:
    digest, name, *rest = *words, ""
    if not DIGEST.fullmatch(digest) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: must be a SHA-256 in hexadecimal, a name, and maybe a rate")
    rate = " ".join(rest).strip()
    try:
        return ApiKey(name, bytes.fromhex(digest), parse_rate(rate) if rate else None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def main(arguments: list[str]) -> int:
    """Make a key."""
    name, *rate = *arguments, ""
    try:
        if not NAME.fullmatch(name) or len(arguments) > 2:
            raise ValueError("give a name of letters, digits, . _ or -, and maybe a rate")
        if rate[0]:
            parse_rate(rate[0])
    except ValueError as error:
        print(f"service.keys: {error}", file=sys.stderr)
        return 2
    key = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    print(f"the key, for its user; it is shown only now:  {key}", file=sys.stderr)
    print("the line for XCLIP_API_KEYS_FILE:", file=sys.stderr)
    print(" ".join(word for word in (digest, name, rate[0]) if word))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
