"""One label vector as a value in a shared cache, and back; what comes back is not trusted.

mark (3 bytes) | version (1) | element type (1) | length D (4) | checksum (8) | D little-endian
float32.

The vectors are stored exactly. As float16 they would take half the space and move logits by up to
0.0025 at a scale of 100 (B/32 with random weights), and the same request would be answered
differently before and after the cache was filled. The checksum covers the key too, so a value under
another label's key does not pass.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Verdict = Literal["good", "other_version", "corrupt"]

VERSION = 1
FLOAT32 = 1
MARK = b"xcl"
HEADER = struct.Struct("<3sBBI8s")
ELEMENT = np.dtype("<f4")


def record_size(dim: int) -> int:
    """Bytes of the record of a vector of this length."""
    return HEADER.size + dim * ELEMENT.itemsize


def pack_vector(key: bytes, vector: Vector) -> bytes:
    """The record of a vector (D,)."""
    payload = np.ascontiguousarray(vector, ELEMENT).tobytes()
    return HEADER.pack(MARK, VERSION, FLOAT32, len(vector), _checksum(key, payload)) + payload


def unpack_vector(key: bytes, record: bytes, dim: int) -> tuple[Vector | None, Verdict]:
    """The vector (dim,) of a record, or None and what was wrong with it."""
    if len(record) < HEADER.size:
        return None, "corrupt"
    mark, version, element, length, checksum = HEADER.unpack_from(record)
    if mark == MARK and version != VERSION:
        return None, "other_version"
    payload = record[HEADER.size :]
    expected = (MARK, FLOAT32, dim, record_size(dim))
    whole = (mark, element, length, len(record)) == expected
    if not whole or _checksum(key, payload) != checksum:
        return None, "corrupt"
    return np.frombuffer(payload, ELEMENT).astype(np.float32, copy=False), "good"


def _checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8, key=hashlib.sha256(key).digest()).digest()
