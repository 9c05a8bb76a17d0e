"""Pixels as a decoder gives them to what the network takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.inputs import InputSpec


class NormalisePixels(nn.Module):
    """Subtract the mean and divide by the deviation of each channel. Has no weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Turn frames uint8 (B,T,H,W,3) RGB into float32 (B,T,3,H,W)."""
        # Cast first: TensorRT takes uint8 for that and for nothing else.
        pixels = frames.float().permute(0, 1, 4, 2, 3)
        return (pixels - self.mean) / self.std
