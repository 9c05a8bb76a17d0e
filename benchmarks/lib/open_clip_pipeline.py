"""The peer for networks of open_clip: its own code, as its documentation shows it, frame by frame.

Loads nothing of ours but what torchvision needs, so that its start and its memory are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from benchmarks.lib.transformers import frames_of

FRAMES = 8


class Pipeline:
    """Decode, preprocess, encode, average, softmax: one clip and its labels after the other."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        import open_clip

        if threads:
            torch.set_num_threads(threads)
        source = f"local-dir:{folder}"
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(source)
        self.model.eval()
        self.tokenize = open_clip.get_tokenizer(source)

    def __call__(self, content: bytes, labels: Sequence[str]) -> dict[str, float]:
        """Return labels and their shares, best first."""
        from PIL import Image

        frames, _ = frames_of(content, FRAMES)
        images = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames])
        with torch.inference_mode():
            video = torch.nn.functional.normalize(self.model.encode_image(images).mean(0), dim=0)
            text = self.model.encode_text(self.tokenize(list(labels)), normalize=True)
            shares = (self.model.logit_scale.exp() * text @ video).softmax(dim=0)
        pairs = zip(labels, shares.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))
