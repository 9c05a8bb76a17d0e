"""A runtime without weights: instant and deterministic, for tests of what stands around one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from export.runtime.contract import Array, check_frames, check_pairs, check_token_ids
from export.runtime.features import Features, Vectors
from model.inputs import InputSpec

LOGIT_SCALE = 100.0


class FakeRuntime:
    """Passes the runtimes' contract test with vectors drawn from a hash of each clip and label.

    Every pixel and every token counts; each (clip, label) pair has its own logit, to the last bit
    independent of what else is in the batch and of padding. `calls` records (method, batch shape).
    """

    def __init__(self, spec: InputSpec, *, dim: int = 32, patches: int = 4) -> None:
        self.name = "fake"
        self.precision = "fp32"
        self.prefers_batches = False
        self.selection: tuple[str, ...] = ("fake: asked for",)
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self._spec, self._dim, self._patches = spec, dim, patches
        self._open = True

    def encode_video(self, frames: NDArray[np.uint8]) -> dict[str, Vectors]:
        """Draw `video` (B,D) and `context` (B,P,D) from each clip's hash."""
        self._record("encode_video", frames)
        check_frames(frames, self._spec)
        drawn = [_draw(clip.tobytes(), (self._patches + 1, self._dim)) for clip in frames]
        both = np.stack(drawn)
        return {"video": both[:, 0].copy(), "context": both[:, 1:].copy()}

    def encode_text(self, token_ids: NDArray[np.int64]) -> Vectors:
        """Draw a vector from each row's hash; padding behind the last token does not count."""
        self._record("encode_text", token_ids)
        check_token_ids(token_ids, self._spec)
        return np.stack([self._label(row) for row in token_ids])

    def score(self, features: Features, text: Vectors) -> Vectors:
        """Scale the cosine of each label with the clip's vector plus the mean of its context."""
        self._record("score", text)
        check_pairs(features, text, ("video", "context"), self._dim)
        clip = _unit(features["video"] + features["context"].mean(1))[:, None]
        logits: Vectors = (clip * _unit(text)).sum(-1) * np.float32(LOGIT_SCALE)
        return logits

    def warm_up(self) -> Vectors:
        """Record the call; there is nothing to warm."""
        self._record("warm_up", np.empty(0))
        return np.zeros((1, 1), np.float32)

    def close(self) -> None:
        """Refuse every later call."""
        self._open = False

    def _label(self, row: NDArray[np.int64]) -> Vectors:
        tokens = np.trim_zeros(np.where(row == self._spec.pad_id, 0, row), "b")
        return _draw(tokens.tobytes(), (self._dim,))

    def _record(self, method: str, batch: Array) -> None:
        if not self._open:
            raise ValueError("this runtime is closed; open another one")
        self.calls.append((method, batch.shape))


def _draw(data: bytes, shape: tuple[int, ...]) -> Vectors:
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    """Normalise the vectors; padding, which is zero, stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
