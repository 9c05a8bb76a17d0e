"""Video-specific prompting (paper, section 3.3).

B clips, T frames, P patches, K labels, D vision width, E joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.config import ModelConfig, heads
from model.network.transformer import LayerNorm, attention, make_activation


class CrossAttention(nn.Module):
    """Labels attend to the patches of their clip; queries, keys and values carry no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """Map labels (B,K,E) and context (B,P,E) to (B,K,E)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.q_proj, text),
                (self.k_proj, context),
                (self.v_proj, context),
            )
        )
        y = attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class PromptLayer(nn.Module):
    """Cross-attention and MLP. The published parts are named norm1 and norm3; there is no norm2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm1 = LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads(width, config.prompt_heads))
        self.norm3 = LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.act = make_activation(config.activation)
        self.proj = nn.Linear(4 * width, width)

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """Map labels (B,K,E) and context (B,P,E) to (B,K,E)."""
        text = text + self.cross_attn(self.norm1(text), context)
        return text + self.proj(self.act(self.fc(self.norm3(text))))


class PatchContext(nn.Module):
    """What the labels attend to: the patches, projected frame by frame, then averaged over time.

    Averaging first would be cheaper and is another function: the LayerNorm stands in between.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln = LayerNorm(config.vision_width)
        self.proj = nn.Parameter(torch.empty(config.vision_width, config.embed_dim))

    def forward(self, patches: Tensor) -> Tensor:
        """Map patch tokens (B,T,P,D) to context (B,P,E)."""
        # The mean is linear, so it may go before the projection, and T times less is multiplied.
        return self.ln(patches).mean(dim=1) @ self.proj

    def untrained(self, patches: Tensor) -> Tensor:
        """Map patch tokens (B,T,P,D) to (B,P,D) as far as no weight has a part in it.

        The weights of the LayerNorm are the same for all frames, so the mean may go before them.
        """
        normed = F.layer_norm(patches.float(), self.ln.normalized_shape, eps=self.ln.eps)
        return normed.mean(dim=1)

    def trained(self, normed: Tensor) -> Tensor:
        """Map what `untrained` gives, (B,P,D), to context (B,P,E)."""
        return (normed * self.ln.weight + self.ln.bias) @ self.proj


class VideoSpecificPrompt(nn.Module):
    """Adds to each label what the clip has to say about it, each label on its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = LayerNorm(config.embed_dim)
        self.layers = nn.ModuleList(PromptLayer(config) for _ in range(config.prompt_layers))
        self.alpha = nn.Parameter(torch.empty(config.embed_dim))

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """Map labels (B,K,E), not normalised, and context (B,P,E) to prompted labels (B,K,E)."""
        context = self.norm(context)
        prompt = text
        for layer in self.layers:
            prompt = layer(prompt, context)
        return text + self.alpha * prompt
