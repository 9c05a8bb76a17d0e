"""CLIP's text encoder. K texts, L tokens, W text width, E joint width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.config import ModelConfig, heads
from model.network.transformer import Block, LayerNorm


class TextEncoder(nn.Module):
    """Token ids to un-normalised label vectors, read off at the end-of-text token.

    open_clip's tower would be the same weights, but masks with its full context whatever it is
    given: texts cannot be shorter than 77, while the cost here must follow the longest label.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.blocks = nn.ModuleList(
            Block(width, heads(width), config.activation) for _ in range(config.text_layers)
        )
        self.ln_final = LayerNorm(width)
        self.projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Map token ids (K,L), L at most the context length, to vectors (K,E)."""
        length = token_ids.shape[1]
        x = self.token_embedding(token_ids) + self.positional_embedding[:length]
        for block in self.blocks:
            x = block(x, causal=True)
        # The largest id is the end token, as in `token_lengths`; causality keeps the padding
        # behind it out of what it has seen.
        ends = token_ids.argmax(dim=-1)
        # x.shape[0], not len(x): tracing for export takes a length for a constant.
        at_end = x[torch.arange(x.shape[0], device=x.device), ends]
        return self.ln_final(at_end) @ self.projection
