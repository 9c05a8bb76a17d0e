"""Pre-LayerNorm transformer parts that the towers share. N sequences, S tokens, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Activation


class LayerNorm(nn.LayerNorm):
    """LayerNorm in fp32 whatever comes in: half precision loses the variance of wide layers."""

    def forward(self, x: Tensor) -> Tensor:
        """Any (…,D) to the same shape and dtype."""
        if x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class QuickGELU(nn.Module):
    """The activation CLIP was trained with: x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


def make_activation(name: Activation) -> nn.Module:
    """The activation of that name."""
    return QuickGELU() if name == "quick_gelu" else nn.GELU()


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed, biased query/key/value matrix (rows q, k, v)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """(N,S,D) to (N,S,D); `causal` hides later tokens from earlier ones."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear to 4 D, activation, linear back."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.act = make_activation(activation)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…,D) to (…,D)."""
        return self.c_proj(self.act(self.c_fc(x)))


class Block(nn.Module):
    """Attention and MLP, each behind its own LayerNorm and residual."""

    def __init__(self, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = Mlp(width, activation)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """(N,S,D) to (N,S,D)."""
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class DropPath(nn.Module):
    """Stochastic depth: whole videos skip the branch, the rest is scaled up to keep the mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, videos: int) -> Tensor:
        """(N,…) of `videos` equal groups; one draw for each video, not for each frame."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(videos, 1).bernoulli_(1 - self.rate) / (1 - self.rate)
        return (x.unflatten(0, (videos, -1)).flatten(1) * kept).view_as(x)
