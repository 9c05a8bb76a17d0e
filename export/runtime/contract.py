"""What every runtime does.

B clips, T frames, H×W pixels, K labels, L tokens, D vector length, P patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.bundle import GraphInfo
from export.bundle.manifest import GraphName, PrecisionName
from export.runtime.features import Features, Vectors, clip_count
from model.inputs import InputSpec

# Pairs of clip and label in one run of the score head. Labels never attend to each other, so any
# cut is exact; this one keeps the widest activation in the cache and memory flat for any K.
PAIRS_PER_RUN = 1024
# Texts in one run of the text encoder: memory stays flat for a list of any length.
TEXTS_PER_RUN = 256

Array = NDArray[Any]
# From named inputs, arrays or what the backend's `keep` made of them, to named outputs.
GraphRun = Callable[[Mapping[str, Any]], Features]


class Runtime(Protocol):
    """Runs the three graphs of a bundle. Calls may come from several threads at once.

    `name` and `precision` say what runs; `selection` why, one line for each runtime considered.
    """

    name: str
    precision: str
    selection: tuple[str, ...]

    @property
    def prefers_batches(self) -> bool:
        """Whether several clips or texts in one call take hardly longer than one.

        True of a GPU. A processor is busy with one clip, and more only make it wait.
        """

    def encode_video(self, frames: NDArray[np.uint8]) -> Features:
        """Encode clips.

        Args:
            frames: uint8 (B,T,H,W,3), RGB, 0 to 255; T, H and W are the network's own.

        Returns:
            The video encoder's outputs, float32 (B,…); X-CLIP: `video` (B,D), `context` (B,P,D).
            On a GPU they stay there until they are read, and `score` takes them from there.

        Raises:
            ValueError: The frames have another type or shape, or the runtime is closed.
            DeviceMemoryError: The batch does not fit the device; a smaller one may.
        """

    def encode_text(self, token_ids: NDArray[np.int64]) -> Vectors:
        """Encode prompts.

        Args:
            token_ids: int64 (K,L), padded at the end, L at most the network's context length.

        Returns:
            Label vectors, float32 (K,D), before any prompt of the video changes them.

        Raises:
            ValueError: The ids have another type or shape, or the runtime is closed.
            DeviceMemoryError: The batch does not fit the device; a smaller one may.
        """

    def score(self, features: Features, text: Vectors) -> Vectors:
        """Score labels against clips, each pair for itself.

        Args:
            features: What `encode_video` gave for B clips.
            text: float32 (B,K,D), the label vectors of each clip; may be a broadcast view.

        Returns:
            Logits, float32 (B,K): the cosine times the network's scale.

        Raises:
            ValueError: Features and vectors do not belong together, or the runtime is closed.
            DeviceMemoryError: The batch does not fit the device; a smaller one may.
        """

    def warm_up(self) -> Vectors:
        """Run every graph once, so that the first request is as fast as the second.

        Returns:
            The logits (1,1) of what it ran: that they are finite shows that the network works.
        """

    def close(self) -> None:
        """Give memory and threads back; any later call is a ValueError."""


class Backend(Protocol):
    """A library that runs a graph file: all that tells one runtime from another.

    `max_clips` is the largest batch it takes, None where there is no limit of its own;
    `prefers_batches` as in Runtime; `opens_at_once` whether several graphs may be loaded at the
    same time.
    """

    name: str
    max_clips: int | None
    prefers_batches: bool
    opens_at_once: bool

    def open(
        self, name: GraphName, graph: GraphInfo, file: Path, precision: PrecisionName
    ) -> GraphRun:
        """Load a graph; return a call from its named inputs to its named outputs.

        `precision` is what it is computed in; a file whose types say so already needs no more.
        """

    def keep(self, features: Features, names: tuple[str, ...]) -> Mapping[str, Any]:
        """Put features where this backend's graphs read them best, for several runs."""

    def close(self) -> None:
        """Give memory and threads back."""


def check_frames(frames: Array, spec: InputSpec) -> None:
    """Refuse what is not uint8 (B,T,H,W,3) of the network's own T, H and W."""
    expected = (spec.num_frames, spec.image_size, spec.image_size, 3)
    if frames.dtype != np.uint8 or frames.shape[1:] != expected or not frames.size:
        raise ValueError(
            f"frames must be uint8 (B, {', '.join(map(str, expected))}) with B at least 1, "
            f"not {frames.dtype} {frames.shape}"
        )


def check_token_ids(token_ids: Array, spec: InputSpec) -> None:
    """Refuse what is not int64 (K,L) with L within the network's context length."""
    if token_ids.dtype != np.int64 or token_ids.ndim != 2 or not token_ids.size:
        raise ValueError(
            f"token_ids must be int64 (K, L), not empty, not {token_ids.dtype} {token_ids.shape}"
        )
    if token_ids.shape[1] > spec.context_length:
        raise ValueError(
            f"token_ids has {token_ids.shape[1]} tokens in a row, the network reads at most "
            f"{spec.context_length}"
        )


def check_pairs(features: Features, text: Array, names: tuple[str, ...], dim: int) -> None:
    """Refuse features and label vectors that do not belong together."""
    missing = [name for name in names if name not in features]
    if missing:
        raise ValueError(f"features lack {', '.join(missing)}; they hold {', '.join(features)}")
    if text.dtype != np.float32 or text.ndim != 3 or text.shape[2] != dim or not text.size:
        raise ValueError(
            f"text must be float32 (B, K, {dim}), not empty, not {text.dtype} {text.shape}"
        )
    for name in names:
        clips = clip_count(features, name)
        if clips != len(text):
            raise ValueError(f"text is for {len(text)} clips, features[{name!r}] for {clips}")


def in_host_memory(features: Features, names: tuple[str, ...]) -> Mapping[str, Array]:
    """Return features as contiguous arrays in host memory."""
    return {name: np.ascontiguousarray(features[name]) for name in names}


def already_checked() -> None:
    """Do nothing: the files were checked before."""


@dataclass(frozen=True)
class RuntimeOptions:
    """What a runtime may use; None is what there is.

    `threads` of the processor, `gpu_memory_bytes` of the device. In `engine_cache` the TensorRT
    provider keeps the engines that it builds; without one it builds them at every start.
    `cuda_graphs`: the CUDA provider captures the video encoder for one clip. In `weight_cache`
    ONNX Runtime on the processor keeps packed weights, for processes to share; `checked` comes back
    once the bundle's files are known to be what was exported, and raises where they are not. In
    `choices` is kept which runtime was the fastest here; without, each start measures.
    """

    threads: int | None = None
    gpu_memory_bytes: int | None = None
    engine_cache: Path | None = None
    cuda_graphs: bool = False
    weight_cache: Path | None = None
    choices: Path | None = None
    checked: Callable[[], object] = already_checked
