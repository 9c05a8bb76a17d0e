"""Label vectors and clips as values of a shared cache, and back; what comes back is not trusted.

mark (3 bytes) | version (1) | checksum (16) | safetensors: arrays of float32, and of a clip its
facts as JSON in an array of bytes

Numbers are stored exactly: a request is answered alike to the last bit whichever server computed
what it needs (as float16 a label would move logits by up to 0.0025 at a scale of 100; B/32 with
random weights). The checksum covers the key too, so a value under another key does not pass. With a
secret it cannot be forged; without one it finds accidents alone.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from model.inputs import VideoInfo
from service.cache.clips import EncodedClip

Vector = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

VERSION = 4  # another one, too, when decoding or sampling comes to choose other frames
MARK = b"xcr"
HEADER = struct.Struct("<3sB16s")
CHECKSUM_BYTES = 16
VECTOR = "vector"
INFO = "info.json"


class Verdict(StrEnum):
    """What became of a value that was found."""

    GOOD = "good"
    OTHER_VERSION = "other_version"
    CORRUPT = "corrupt"


class BadRecord(ValueError):
    """A value that is no record of ours; `verdict` says in what way."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


@dataclass(frozen=True)
class ClipForm:
    """What every clip of one network looks like: the shape of each feature of one view, and how
    many frames a view has.
    """

    features: Mapping[str, tuple[int, ...]]
    frames_per_view: int

    def fits(self, clip: EncodedClip) -> bool:
        """Tell whether the clip looks like that, with finite numbers."""
        times = len(clip.info.frame_times_s)
        views = times // self.frames_per_view
        shapes = {name: (views, *shape) for name, shape in self.features.items()}
        return views > 0 and times == views * self.frames_per_view and _fit(clip.features, shapes)


@dataclass(frozen=True)
class Records:
    """Writes and reads values; servers that share a cache have the same `secret`, or none."""

    secret: bytes = b""

    @cached_property
    def _secret_key(self) -> bytes:
        """The secret in the length that BLAKE2b takes for a key."""
        return hashlib.sha256(self.secret).digest() if self.secret else b""

    def pack_vector(self, key: bytes, vector: Vector) -> bytes:
        """Make the record of a label vector (D,)."""
        return self._pack(key, {VECTOR: np.ascontiguousarray(vector, np.float32)})

    def unpack_vector(self, key: bytes, record: bytes, dim: int) -> Vector:
        """Return the vector (dim,) of a record; BadRecord where it holds none of finite numbers."""
        arrays = self._unpack(key, record)
        if not _fit(arrays, {VECTOR: (dim,)}):
            raise BadRecord(Verdict.CORRUPT)
        vector: Vector = arrays[VECTOR]
        return vector

    def pack_clip(self, key: bytes, clip: EncodedClip, form: ClipForm) -> bytes:
        """Make the record of a clip; ValueError where it could not be read back."""
        if not form.fits(clip):
            raise ValueError("the clip does not look like the network's own")
        info = np.frombuffer(clip.info.model_dump_json().encode(), np.uint8)
        features = {n: np.ascontiguousarray(a, np.float32) for n, a in clip.features.items()}
        return self._pack(key, {**features, INFO: info})

    def unpack_clip(self, key: bytes, record: bytes, form: ClipForm) -> EncodedClip:
        """Return the clip of a record; BadRecord where it holds none of this form."""
        arrays = self._unpack(key, record)
        try:
            info = VideoInfo.model_validate_json(arrays.pop(INFO).tobytes())
        except (KeyError, ValueError):
            raise BadRecord(Verdict.CORRUPT) from None
        clip = EncodedClip(arrays, info)
        if not form.fits(clip):
            raise BadRecord(Verdict.CORRUPT)
        return clip

    def _pack(self, key: bytes, arrays: Arrays) -> bytes:
        body = save(dict(arrays))
        return HEADER.pack(MARK, VERSION, self._checksum(key, body)) + body

    def _unpack(self, key: bytes, record: bytes) -> dict[str, NDArray[Any]]:
        if len(record) < HEADER.size:
            raise BadRecord(Verdict.CORRUPT)
        mark, version, checksum = HEADER.unpack_from(record)
        if mark == MARK and version != VERSION:
            raise BadRecord(Verdict.OTHER_VERSION)
        body = record[HEADER.size :]
        if mark != MARK or not hmac.compare_digest(checksum, self._checksum(key, body)):
            raise BadRecord(Verdict.CORRUPT)
        try:
            arrays: dict[str, NDArray[Any]] = load(body)
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise BadRecord(Verdict.CORRUPT) from None
        return arrays

    def _checksum(self, key: bytes, body: bytes) -> bytes:
        keyed = hashlib.blake2b(key, digest_size=32, key=self._secret_key).digest()
        return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES, key=keyed).digest()


UNSIGNED = Records()


def _fit(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether these are the arrays, of float32, and all their numbers finite."""
    return arrays.keys() == shapes.keys() and all(
        array.dtype == np.float32 and array.shape == shapes[name] and np.isfinite(array).all()
        for name, array in arrays.items()
    )
