"""First values of the weights: the published initial state for what CLIP does not bring along."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.inputs import InputSpec
from model.network.config import ModelConfig
from model.network.mit import MultiframeIntegration
from model.network.transformer import Block, SelfAttention
from model.network.xclip import XClip, assemble

LOGIT_SCALE = math.log(1 / 0.07)
TIME_TABLE_STD = 0.02
LONGEST_WAVE = 30.0  # of the table of sines, in patches and per 2 pi


def build_xclip(
    config: ModelConfig, *, inputs: InputSpec | None = None, seed: int | None = None
) -> XClip:
    """Make a network with fresh weights, in training mode; the same seed gives the same ones."""
    net = assemble(config, inputs)
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    initialise(net, config, generator)
    return net


@torch.no_grad()
def initialise(net: XClip, config: ModelConfig, generator: torch.Generator | None) -> None:
    """Fill every parameter of an X-CLIP, CLIP's parts as CLIP does, the others as published."""
    draw = _Draw(generator)
    _torch_defaults(net, draw)
    _clip_tower(net.visual.blocks, config.vision_width, 2 * config.vision_layers, draw)
    _clip_tower(net.text.blocks, config.text_width, 2 * config.text_layers, draw)
    for table in (net.visual.class_embedding, net.visual.positional_embedding, net.visual.proj):
        draw.normal(table, config.vision_width**-0.5)
    draw.normal(net.text.token_embedding.weight, 0.02)
    draw.normal(net.text.positional_embedding, 0.01)
    draw.normal(net.text.projection, config.text_width**-0.5)
    net.logit_scale.fill_(LOGIT_SCALE)
    if isinstance(net.mit, MultiframeIntegration):
        _new_part(net.mit, draw)
        draw.truncated(net.mit.positional_embedding, TIME_TABLE_STD)
    if net.prompt is not None and net.patch_context is not None:
        _new_part(net.prompt, draw)
        draw.normal(net.patch_context.proj, 1.0)
        net.prompt.alpha.fill_(config.prompt_alpha)


def table_of_sines(side: int, width: int) -> Tensor:
    """Describe places of `side` × `side` patches (P,D) by sines and cosines of row and column.

    The fixed table of plain vision transformers that learn from little data (Beyer, Zhai,
    Kolesnikov, "Better plain ViT baselines", 2022), with shorter waves: a grid here has few places.
    """
    rates = LONGEST_WAVE ** (-torch.arange(width // 4) / (width // 4))
    phases = torch.arange(side)[:, None] * rates
    along = torch.cat([phases.sin(), phases.cos()], dim=1)
    rows, columns = along.repeat_interleave(side, 0), along.repeat(side, 1)
    return torch.cat([rows, columns], dim=1)


class _Draw:
    """Random fills from one generator, so that a seed decides every weight."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def normal(self, x: Tensor, std: float) -> None:
        x.normal_(0.0, std, generator=self.generator)

    def truncated(self, x: Tensor, std: float) -> None:
        nn.init.trunc_normal_(x, std=std, generator=self.generator)

    def uniform(self, x: Tensor, bound: float) -> None:
        x.uniform_(-bound, bound, generator=self.generator)

    def xavier(self, x: Tensor) -> None:
        nn.init.xavier_uniform_(x, generator=self.generator)


def _torch_defaults(net: nn.Module, draw: _Draw) -> None:
    """Fill with PyTorch's own defaults, from our generator (what the message layers keep)."""
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Linear | nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            draw.uniform(module.weight, bound)
            if module.bias is not None:
                draw.uniform(module.bias, bound)
    for module in net.modules():
        if isinstance(module, SelfAttention):
            draw.xavier(module.in_proj_weight)
            module.in_proj_bias.zero_()
            module.out_proj.bias.zero_()


def _clip_tower(blocks: nn.ModuleList, width: int, depth: int, draw: _Draw) -> None:
    """Fill blocks as CLIP does at first: residual branches shrink with the depth."""
    for block in blocks:
        assert isinstance(block, Block)
        draw.normal(block.attn.in_proj_weight, width**-0.5)
        draw.normal(block.attn.out_proj.weight, (width * depth) ** -0.5)
        draw.normal(block.mlp.c_fc.weight, (2 * width) ** -0.5)
        draw.normal(block.mlp.c_proj.weight, (width * depth) ** -0.5)


def _new_part(part: nn.Module, draw: _Draw) -> None:
    """Fill linears truncated-normal with std 0.02, biases with zero."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            draw.truncated(module.weight, 0.02)
            if module.bias is not None:
                module.bias.zero_()
