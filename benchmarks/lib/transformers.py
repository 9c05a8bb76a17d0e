"""The peer everybody has: transformers' X-CLIP as its documentation shows it.

Loads nothing of ours but what torchvision needs, so that its start and its memory are its own.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

import model.torchvision_schemas  # noqa: F401  (before transformers)
from model.command_line import Parser


def frames_of(content: bytes, count: int) -> tuple[list[np.ndarray], str]:
    """Read equally spaced RGB frames of a file; say who did: decord where it is installed."""
    try:
        return _by_decord(content, count), "decord"
    except ImportError:
        return _by_pyav(content, count), "PyAV"


def _by_decord(content: bytes, count: int) -> list[np.ndarray]:
    from decord import VideoReader

    reader = VideoReader(io.BytesIO(content), num_threads=1)
    return list(reader.get_batch(_spread(len(reader), count)).asnumpy())


def _by_pyav(content: bytes, count: int) -> list[np.ndarray]:
    import av

    with av.open(io.BytesIO(content), "r") as container:
        sampled = set(_spread(container.streams.video[0].frames, count).tolist())
        decoded = enumerate(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for i, frame in decoded if i in sampled]


def _spread(frames: int, count: int) -> np.ndarray:
    return np.linspace(0, frames - 1, count).astype(int)


def autocast(precision: str) -> AbstractContextManager[Any]:
    """Enter bf16 as torch offers it for a network in fp32; leave fp32 as it is."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def server_arguments(description: str | None) -> argparse.Namespace:
    """Return what a server around the pipeline is told on its command line."""
    parser = Parser(description=description)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()


class Pipeline:
    """Decode, processor, model, softmax: one clip and its labels after the other."""

    def __init__(self, folder: Path, precision: str = "fp32", threads: int | None = None) -> None:
        from transformers import AutoModel, AutoProcessor

        if threads:
            torch.set_num_threads(threads)
        self.precision = precision
        self.model = AutoModel.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self._frames = self.model.config.vision_config.num_frames

    def __call__(self, content: bytes, labels: Sequence[str]) -> dict[str, float]:
        """Return labels and their shares, best first."""
        frames, _ = frames_of(content, self._frames)
        inputs = self.processor(text=list(labels), videos=frames, return_tensors="pt", padding=True)
        with torch.inference_mode(), autocast(self.precision):
            shares = self.model(**inputs).logits_per_video[0].float().softmax(dim=0)
        pairs = zip(labels, shares.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))
