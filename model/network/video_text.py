"""What every network here does, whichever family it is of: the three parts of a bundle.

B clips, T frames, P context vectors, K labels, L tokens, E joint width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.inputs import InputSpec


class VideoTextNetwork(nn.Module, ABC):
    """Scores texts for clips; a clip is encoded without the texts, a text without the clip.

    Attributes:
        inputs: Frames and texts as the network wants them.
        logit_scale: The logarithm of what cosines are multiplied with, a scalar parameter.
        logit_bias: What is then added.
        embed_dim: E.
        context_patches: P; 0 where labels are compared with the clip's vector alone.
        variant: The architecture in a few words.
    """

    inputs: InputSpec
    logit_scale: nn.Parameter
    logit_bias: float = 0.0
    embed_dim: int
    context_patches: int
    variant: str

    @abstractmethod
    def encode_video(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode float frames (B,T,3,H,W), normalised, to video (B,E) and context (B,P,E)."""

    @abstractmethod
    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Encode token ids (K,L) to vectors (K,E)."""

    @abstractmethod
    def score(self, video: Tensor, context: Tensor, text: Tensor) -> Tensor:
        """Score vectors (K,E) or (B,K,E) for clips: logits (B,K)."""


def cosine_logits(video: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Compare clips (B,E) with texts (B,K,E): cosines times exp(logit_scale), (B,K)."""
    # fp32 at least, and a product that autocast leaves alone: in half precision the logits of
    # like labels would fall together.
    dtype = torch.promote_types(text.dtype, torch.float32)
    text, video = F.normalize(text.to(dtype), dim=-1), F.normalize(video.to(dtype), dim=-1)
    return logit_scale.to(dtype).exp() * (text * video.unsqueeze(1)).sum(dim=-1)
