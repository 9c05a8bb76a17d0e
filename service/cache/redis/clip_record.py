"""One encoded clip as a value in a shared cache, and back; what comes back is not trusted.

mark (3 bytes) | version (1) | length of the facts (4) | checksum (16) | facts as JSON | the arrays
one after another, little-endian float32.

The features are stored exactly, so a clip that another server encoded is answered for to the last
bit as there. The checksum covers the key too: a value under another clip's key does not pass.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.inputs import VideoInfo
from service.cache.clips import EncodedClip

Verdict = Literal["good", "other_version", "corrupt"]

VERSION = 2  # another one, too, when decoding or sampling comes to choose other frames
MARK = b"xcc"
HEADER = struct.Struct("<3sBI16s")
ELEMENT = np.dtype("<f4")


@dataclass(frozen=True)
class ClipForm:
    """What every clip of one network looks like: the shape of each feature of one view, and how
    many frames a view has.
    """

    features: Mapping[str, tuple[int, ...]]
    frames_per_view: int

    @property
    def floats_per_view(self) -> int:
        """Numbers in all features of one view."""
        return sum(math.prod(shape) for shape in self.features.values())

    def fits(self, clip: EncodedClip) -> bool:
        """Whether the clip looks like that, with finite numbers."""
        views = len(clip.info.frame_times_s) // self.frames_per_view
        shapes = {name: array.shape for name, array in clip.features.items()}
        return (
            views > 0
            and len(clip.info.frame_times_s) == views * self.frames_per_view
            and shapes == {name: (views, *shape) for name, shape in self.features.items()}
            and all(np.isfinite(array).all() for array in clip.features.values())
        )


def pack_clip(key: bytes, clip: EncodedClip, form: ClipForm) -> bytes:
    """The record of a clip; ValueError where it could not be read back."""
    if not form.fits(clip):
        raise ValueError("the clip does not look like the network's own")
    head = clip.info.model_dump_json().encode()
    arrays = (np.ascontiguousarray(clip.features[name], ELEMENT) for name in form.features)
    payload = b"".join([head, *(array.tobytes() for array in arrays)])
    return HEADER.pack(MARK, VERSION, len(head), _checksum(key, payload)) + payload


def unpack_clip(key: bytes, record: bytes, form: ClipForm) -> tuple[EncodedClip | None, Verdict]:
    """The clip of a record, or None and what was wrong with it."""
    if len(record) < HEADER.size:
        return None, "corrupt"
    mark, version, head, checksum = HEADER.unpack_from(record)
    if mark == MARK and version != VERSION:
        return None, "other_version"
    payload = record[HEADER.size :]
    if mark != MARK or head > len(payload) or _checksum(key, payload) != checksum:
        return None, "corrupt"
    try:
        clip = _read(payload, head, form)
    except ValueError:
        return None, "corrupt"
    return (clip, "good") if form.fits(clip) else (None, "corrupt")


def _read(payload: bytes, head: int, form: ClipForm) -> EncodedClip:
    """The clip in a payload; ValueError where there is none of this form."""
    info = VideoInfo.model_validate_json(payload[:head])
    views = len(info.frame_times_s) // form.frames_per_view
    if len(payload) != head + views * form.floats_per_view * ELEMENT.itemsize:
        raise ValueError("the arrays have another size")
    features, place = {}, head
    for name, shape in form.features.items():
        count = views * math.prod(shape)
        array = np.frombuffer(payload, ELEMENT, count, place).astype(np.float32)  # a copy, aligned
        features[name] = array.reshape(views, *shape)
        place += count * ELEMENT.itemsize
    return EncodedClip(features, info)


def _checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16, key=hashlib.sha256(key).digest()).digest()
