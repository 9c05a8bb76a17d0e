"""What can be compared and timed: a video encoder, and most of them a whole network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Answers:
    """Video vectors (N,D) and logits (N,K), float32."""

    video: np.ndarray
    logits: np.ndarray


class Encoder(Protocol):
    """From frames in the host's memory to vectors in the host's memory: the same job for all."""

    def video(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames uint8 (B,T,H,W,3) to vectors float32 (B,D)."""

    def close(self) -> None:
        """Give the device's memory back."""


class Network(Encoder, Protocol):
    """An encoder that also scores texts."""

    def answers(self, frames: np.ndarray, token_ids: np.ndarray) -> Answers:
        """Score frames (N,T,H,W,3) against texts (K,L)."""


@dataclass(frozen=True)
class Contestant:
    """Something by its name for the tables, and how to open it.

    `open` raises NotRun or ImportError where it cannot be had here.
    """

    what: str
    precision: str
    open: Callable[[], Encoder]


def smallest_cosine(vectors: np.ndarray, expected: np.ndarray) -> float:
    """Return the smallest cosine between vectors (N,D) of two contestants, row by row."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((vectors * expected).sum(axis=1) / norms).min())
