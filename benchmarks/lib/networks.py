"""Networks of real size with random weights: speed and rounding do not depend on training."""

from __future__ import annotations

import torch
from torch import nn

from model.network.config import VARIANTS, ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip


def random_network(variant: str) -> XClip:
    """Make a published variant with random weights, the same in every run."""
    return random_weights(VARIANTS[variant])


def random_weights(config: ModelConfig) -> XClip:
    """Make a network with every parameter random, the same in every run.

    Norms and biases are spread, too: as they are at first, leaving one out would not be seen.
    """
    net = build_xclip(config, seed=0).eval().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(1)
    for name, p in net.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 0:
            p.fill_(4.6)
        elif p.ndim > 1:
            p.copy_(0.7 * noise / p.shape[-1] ** 0.5)
        else:
            p.copy_(0.2 * noise + name.endswith(("ln_1.weight", "ln_2.weight", "norm.weight")))
    return net


def randomise(net: nn.Module) -> None:
    """Make every weight of any network random, of a size under which numbers do not grow.

    No bias or deviation keeps a value under which leaving it out would not be seen.
    """
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name == "logit_scale":
            value.fill_(4.0)
        elif name == "logit_bias":
            value.fill_(-10.5)
        elif name.endswith("running_var"):
            value.copy_(1 + 0.2 * noise.abs())
        elif value.numel() > value.shape[0]:
            value.copy_(noise / value[0].numel() ** 0.5)
        elif name.endswith("gamma"):  # a scale of a residual branch: at 1 the sum grows and grows
            value.copy_(0.3 * noise)
        else:
            value.copy_((0.2 * noise + name.endswith("weight")).reshape(value.shape))
