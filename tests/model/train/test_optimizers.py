"""Which optimiser has which parameter, and at which rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from model.train.config import OptimConfig
from model.train.groups import parameter_groups
from model.train.muon import Fp32Muon
from model.train.optimizers import make_optimizers

SIZES = {
    "image_size": 48, "patch_size": 16, "num_frames": 4, "vision_width": 64, "vision_layers": 2,
    "embed_dim": 64, "text_width": 64, "text_layers": 1, "vocab_size": 300, "context_length": 16,
}  # fmt: skip


@pytest.fixture
def net() -> XClip:
    return build_xclip(ModelConfig(**SIZES), seed=0)


def names_by_optimizer(net: XClip, config: OptimConfig) -> dict[str, set[str]]:
    names = {id(p): name for name, p in net.named_parameters()}
    return {
        type(optimizer).__name__: {
            names[id(p)] for group in optimizer.param_groups for p in group["params"]
        }
        for optimizer in make_optimizers(parameter_groups(net, config), config)
    }


def test_muon_has_the_matrices_and_adamw_the_rest(net: XClip) -> None:
    placed = names_by_optimizer(net, OptimConfig(name="muon"))
    assert placed["Fp32Muon"] | placed["AdamW"] == {name for name, _ in net.named_parameters()}
    assert not placed["Fp32Muon"] & placed["AdamW"]
    assert {"visual.proj", "text.projection", "visual.blocks.0.attn.in_proj_weight"} <= placed[
        "Fp32Muon"
    ]
    tables = {"text.token_embedding.weight", "visual.positional_embedding", "visual.conv1.weight"}
    assert tables | {"logit_scale", "mit.positional_embedding"} <= placed["AdamW"]
    assert all(net.get_parameter(name).ndim == 2 for name in placed["Fp32Muon"])


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_group_keeps_its_factor_and_decay(net: XClip, name: str) -> None:
    config = OptimConfig(name=name, weight_decay=0.25, new_parts_factor=10)
    groups = parameter_groups(net, config)
    wanted = {id(p): (g.lr_factor, g.weight_decay) for g in groups for p in g.parameters.values()}
    given = {
        id(p): (options["lr_factor"], options["weight_decay"])
        for optimizer in make_optimizers(groups, config)
        for options in optimizer.param_groups
        for p in options["params"]
    }
    assert given == wanted


def test_one_rate_gives_updates_of_like_size(net: XClip) -> None:
    """The update of a matrix is as large as AdamW's would be, so no rate of its own is needed."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    config = OptimConfig(name="muon", lr=1e-3, weight_decay=0)
    optimizers = make_optimizers(parameter_groups(net, config), config)
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()
    sizes = {
        name: float((p.detach() - before[name]).square().mean().sqrt())
        for name, p in net.named_parameters()
        if p.ndim == 2 and p.numel() > 1000
    }
    assert all(1e-4 < size < 2e-3 for size in sizes.values()), sizes


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_in_fp32_does_what_torch_does_in_bf16(shape: tuple[int, ...], nesterov: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    gradients = [torch.randn(shape, generator=generator) for _ in range(3)]
    ends = []
    for kind in (torch.optim.Muon, Fp32Muon):
        weight = torch.nn.Parameter(start.clone())
        options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1, "nesterov": nesterov}
        optimizer = kind([weight], adjust_lr_fn="match_rms_adamw", **options)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ends.append((weight.detach(), optimizer.state[weight]["momentum_buffer"]))
    (theirs, their_average), (ours, our_average) = ends
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved
    assert torch.allclose(our_average, their_average, atol=1e-6)
