"""Multi-frame Integration Transformer (paper, section 3.2). B clips, T frames, E joint width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.config import ModelConfig, heads
from model.network.transformer import Block


class MultiframeIntegration(nn.Module):
    """Frame features to one clip feature; the only place that knows the order of the frames.

    The outer residual adds the features as they came in, without their positions.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.positional_embedding = nn.Parameter(torch.empty(1, config.num_frames, width))
        self.blocks = nn.ModuleList(
            Block(width, heads(width, config.mit_heads), config.activation)
            for _ in range(config.mit_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B,T,E), not normalised, to clip vectors (B,E)."""
        x = features + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return (x + features).mean(dim=1)


class FrameMean(nn.Module):
    """What stands in for the integration transformer without layers: the mean over time."""

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B,T,E) to clip vectors (B,E)."""
        return features.mean(dim=1)


def resample_time_positions(table: Tensor, num_frames: int) -> Tensor:
    """Resample a time table (1,T,E) to other frames, linearly between the old positions."""
    if table.shape[1] == num_frames:
        return table
    stretched = F.interpolate(
        table.float().transpose(1, 2), size=num_frames, mode="linear", align_corners=False
    )
    return stretched.transpose(1, 2).to(table.dtype)
