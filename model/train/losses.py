"""What is minimised. B clips, K labels or captions."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth(truth: Tensor, smoothing: float) -> Tensor:
    """Make targets (B,K) out of what is right for each clip (B,K), as booleans.

    Equal shares to all that is right, 1 − ε of them, and ε spread over all K. Nothing where nothing
    is right: of such a clip nobody knows what it shows.
    """
    count = truth.sum(dim=1, keepdim=True)
    right = truth / count.clamp(min=1)
    return (right * (1 - smoothing) + smoothing / truth.shape[1]) * (count > 0)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each clip (B,) from logits and soft targets (B,K)."""
    return -(targets * torch.log_softmax(logits.float(), dim=1)).sum(dim=1)
