"""Pre-LayerNorm transformer parts that the towers share. N sequences, S tokens, D width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.network.config import Activation, DropPathAxis


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose statistics are fp32 whatever comes in.

    torch's kernels see to that within one precision. Under autocast the weights are fp32 and so is
    the outcome: that keeps the residual stream, which begins with a LayerNorm, in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map any (…,D) to the same shape, in the precision of the weights."""
        return super().forward(x.to(self.weight.dtype))


class QuickGELU(nn.Module):
    """The activation CLIP was trained with: x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map each element by itself."""
        if x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            trained: Tensor = _TrainedQuickGELU.apply(x)
            return trained
        return x * torch.sigmoid(1.702 * x)


class _TrainedQuickGELU(torch.autograd.Function):
    """The same as silu(1.702 x) / 1.702, whose derivative is silu's own.

    Of the widest tensors of a network one is kept for the way back instead of two, and the way back
    passes over them once instead of five times. Compilers see to that by themselves.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scaled = 1.702 * x
        ctx.save_for_backward(scaled)
        return F.silu(scaled).div_(1.702)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (scaled,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, scaled)


def make_activation(name: Activation) -> nn.Module:
    """Return the activation of that name."""
    return QuickGELU() if name == "quick_gelu" else nn.GELU()


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Map queries (N,H,S,d), keys and values (N,H,R,d) to (N,H,S,d).

    Under autocast on a processor it stays fp32: the products here are small, and torch's way back
    through them takes three times as long in half precision.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=causal)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed, biased query/key/value matrix (rows q, k, v)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """Map (N,S,D) to (N,S,D); `causal` hides later tokens from earlier ones."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        y = attention(q, k, v, causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear to 4 D, activation, linear back."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.act = make_activation(activation)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…,D) to (…,D)."""
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
        """Map (N,S,D) to (N,S,D)."""
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class DropPath(nn.Module):
    """Stochastic depth: what is dropped skips the branch, the rest is scaled up to keep the mean.

    `by` "clip" drops whole clips. "position" drops token or frame positions over the whole batch,
    as the released code does: its axes are swapped, and 0 is not the clip.
    """

    def __init__(self, rate: float, by: DropPathAxis) -> None:
        super().__init__()
        self.rate, self.by = rate, by

    def forward(self, x: Tensor, clips: int) -> Tensor:
        """Map (N,S,D), rows in `clips` equal groups, to the same shape."""
        if not self.training or self.rate == 0:
            return x
        if self.by == "position":
            return x * self._kept(x, 1, x.shape[1], 1)
        return (x.unflatten(0, (clips, -1)) * self._kept(x, clips, 1, 1, 1)).flatten(0, 1)

    def _kept(self, x: Tensor, *shape: int) -> Tensor:
        return x.new_empty(shape).bernoulli_(1 - self.rate) / (1 - self.rate)
