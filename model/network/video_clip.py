"""CLIP that was trained on videos without parts of its own: what its frames share, and their mean.

B clips, T frames, S tokens of a frame, H heads, K labels, L tokens of a text, E joint width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.inputs import InputSpec
from model.network.transformer import Block, SelfAttention, attention
from model.network.video_text import VideoTextNetwork, cosine_logits
from model.network.xclip import XClip


@dataclass(frozen=True)
class OverTime:
    """What a network does over time.

    Attributes:
        neighbours: Frames attend to the tokens of the frames beside them (Open-VCLIP).
        unit_frames: The mean is taken of unit vectors, and is itself not normalised again.
    """

    neighbours: bool
    unit_frames: bool


class NeighbourAttention(SelfAttention):
    """Attention of a frame to the tokens of the frame after it, of the one before it and its own.

    Where there is no such frame its keys and values are zeros, as published: not masked, they take
    their part of the softmax with a logit of 0. It has the weights of CLIP's attention.
    """

    def __init__(self, width: int, heads: int, num_frames: int) -> None:
        super().__init__(width, heads)
        self.num_frames = num_frames

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """Map (B·T,S,D), frames of a clip in a row, to the same shape."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        y = attention(q, self._of_three_frames(k), self._of_three_frames(v))
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _of_three_frames(self, tokens: Tensor) -> Tensor:
        """Map keys or values (B·T,H,S,d) to those that each frame attends to, (B·T,H,3·S,d)."""
        own = tokens.unflatten(0, (-1, self.num_frames))
        nobody = torch.zeros_like(own[:, :1])
        after = torch.cat([own[:, 1:], nobody], dim=1)
        before = torch.cat([nobody, own[:, :-1]], dim=1)
        return torch.cat([after, before, own], dim=3).flatten(0, 1)


class VideoClip(VideoTextNetwork):
    """CLIP's two towers on clips. `towers` is a network without parts of X-CLIP's own."""

    def __init__(self, towers: XClip, inputs: InputSpec, over_time: OverTime, variant: str) -> None:
        super().__init__()
        if over_time.neighbours:
            for block in towers.visual.blocks:
                assert isinstance(block, Block)
                block.attn = _with_neighbours(block.attn, inputs.num_frames)
        self.towers, self.inputs, self.over_time = towers, inputs, over_time
        self.logit_scale = towers.logit_scale
        self.embed_dim, self.context_patches = towers.config.embed_dim, 0
        self.variant = variant

    def encode_video(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode float frames (B,T,3,H,W), normalised, to video (B,E) and an empty (B,0,E)."""
        features, _ = self.towers.visual(frames)
        if self.over_time.unit_frames:
            features = F.normalize(features, dim=-1)
        video = features.mean(dim=1)
        return video, video.new_empty(video.shape[0], 0, self.embed_dim)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Encode token ids (K,L) to unit vectors (K,E), whose mean over templates is published."""
        return F.normalize(self.towers.encode_text(token_ids), dim=-1)

    def score(self, video: Tensor, context: Tensor, text: Tensor) -> Tensor:
        """Score vectors (K,E) or (B,K,E) for clips: logits (B,K).

        The scale times the cosine; of unit frames the mean of the cosines of the frames.
        """
        if text.ndim == 2:
            text = text.expand(video.shape[0], -1, -1)
        if not self.over_time.unit_frames:
            return cosine_logits(video, text, self.logit_scale)
        dtype = torch.promote_types(text.dtype, torch.float32)
        text = F.normalize(text.to(dtype), dim=-1)
        cosines = (text * video.to(dtype).unsqueeze(1)).sum(dim=-1)
        return self.logit_scale.to(dtype).exp() * cosines


def _with_neighbours(plain: SelfAttention, num_frames: int) -> NeighbourAttention:
    """Return attention over three frames that has the weights of `plain`."""
    with torch.device("meta"):
        wide = NeighbourAttention(plain.out_proj.in_features, plain.heads, num_frames)
    wide.load_state_dict(plain.state_dict(keep_vars=True), assign=True)
    return wide
