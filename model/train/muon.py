"""Muon in fp32, for processors.

torch's own makes matrices orthogonal in bf16, which most processors only imitate: there its step
takes longer than the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon


class Fp32Muon(Muon):
    """torch.optim.Muon, its groups, state and updates, with the iteration in the weights' type."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Change the weights that have a gradient."""
        assert closure is None, "no optimiser here is given one"
        for group in self.param_groups:
            matrices: list[Tensor] = []
            gradients: list[Tensor] = []
            averages: list[Tensor] = []
            self._init_group(group, matrices, gradients, averages)
            for matrix, gradient, average in zip(matrices, gradients, averages, strict=True):
                average.lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
                update = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"])
                size = 0.2 * max(matrix.shape) ** 0.5  # "match_rms_adamw"
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, coefficients: Sequence[float], steps: int) -> Tensor:
    """Approach the nearest matrix with singular values of 1: Newton and Schulz's iteration as a
    quintic (K. Jordan, "Muon", 2024), which ends with values from 0.7 to 1.2.
    """
    a, b, c = coefficients
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
