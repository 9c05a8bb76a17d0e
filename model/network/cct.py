"""Cross-frame Communication Transformer (paper, section 3.2).

B clips, T frames, P patches, D vision width, E joint width. Frames are rows b·T + t: the frame
index is fastest, and mixing that up silently mixes clips.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from model.network.config import ModelConfig, heads
from model.network.transformer import Block, DropPath, LayerNorm, SelfAttention


class CrossFrameBlock(Block):
    """A CLIP block whose frames exchange one message token each before they attend.

    The message is made anew from the raw class token in every block and dropped after the
    attention: all that a frame keeps of it is what attention brought in.
    """

    def __init__(self, config: ModelConfig, drop_path: float) -> None:
        width = config.vision_width
        super().__init__(width, heads(width), config.activation)
        self.num_frames = config.num_frames
        self.drop_path = DropPath(drop_path, config.drop_path_by)
        if config.cross_frame_messages:
            self.message_fc = nn.Linear(width, width)
            self.message_ln = LayerNorm(width)
            self.message_attn = SelfAttention(width, heads(width))

    @property
    def has_messages(self) -> bool:
        """Whether the frames see each other."""
        return hasattr(self, "message_fc")

    def messages(self, class_tokens: Tensor) -> Tensor:
        """Map class tokens (B·T,D) to one message for each frame (B·T,1,D)."""
        m = self.message_fc(class_tokens).unflatten(0, (-1, self.num_frames))  # (B,T,D)
        m = m + self.drop_path(self.message_attn(self.message_ln(m)), m.shape[0])
        return m.flatten(0, 1).unsqueeze(1)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """Map class and patch tokens (B·T,1+P,D) to the same shape."""
        clips, tokens = x.shape[0] // self.num_frames, x.shape[1]
        y = torch.cat([x, self.messages(x[:, 0])], dim=1) if self.has_messages else x
        attended = y + self.drop_path(self.attn(self.ln_1(y)), clips)
        x = attended[:, :tokens]
        return x + self.drop_path(self.mlp(self.ln_2(x)), clips)


class VideoEncoder(nn.Module):
    """Frames to one feature and P patch tokens each.

    `checkpoint_segments` above 0 trades time for memory in training: that many segments of the
    blocks are recomputed in the backward pass (published runs at 336 pixels use 3).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.num_frames, self.image_size = config.num_frames, config.image_size
        self.checkpoint_segments = 0
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.num_patches + 1, width))
        self.ln_pre = LayerNorm(width)
        last = max(config.vision_layers - 1, 1)
        rates = [config.drop_path * layer / last for layer in range(config.vision_layers)]
        self.blocks = nn.ModuleList(CrossFrameBlock(config, rate) for rate in rates)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def check(self, frames: Tensor) -> None:
        """Refuse anything but (B,T,3,H,W) of this network's T, H and W, before clips get mixed."""
        expected = (self.num_frames, 3, self.image_size, self.image_size)
        if frames.ndim != 5 or tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames must be (B, {', '.join(map(str, expected))}) for this network, "
                f"not {tuple(frames.shape)}: give it {self.num_frames} frames of "
                f"{self.image_size}×{self.image_size} for each clip"
            )
        if not frames.is_floating_point():
            raise ValueError(
                f"frames are {str(frames.dtype).removeprefix('torch.')}: normalise them with the "
                "mean and std of the network's input spec"
            )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames (B,T,3,H,W), normalised, to features (B,T,E) and patch tokens (B,T,P,D)."""
        self.check(frames)
        x = self.conv1(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B·T,P,D)
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)
        x = x + self.positional_embedding
        x = self._run_blocks(self.ln_pre(x))
        features = self.ln_post(x[:, 0]) @ self.proj
        by_clip = (-1, self.num_frames)
        return features.unflatten(0, by_clip), x[:, 1:].unflatten(0, by_clip)

    def _run_blocks(self, x: Tensor) -> Tensor:
        if self.checkpoint_segments and self.training:
            return checkpoint_sequential(
                list(self.blocks), self.checkpoint_segments, x, use_reentrant=False
            )
        for block in self.blocks:
            x = block(x)
        return x
