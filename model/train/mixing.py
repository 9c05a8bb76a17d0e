"""Mixup and CutMix on a micro-batch. B clips, T frames, H×W pixels, K labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.train.config import MixingConfig


@dataclass(frozen=True)
class Mix:
    """How one group is mixed with itself: the partner of each clip, and the share that is kept.

    CutMix has the `box` (top, bottom, left, right) that is taken from the partner.
    """

    partners: tuple[int, ...]
    kept: float
    box: tuple[int, int, int, int] | None = None


def draw_mix(
    clips: int, height: int, width: int, config: MixingConfig, rng: np.random.Generator
) -> Mix | None:
    """Draw a share, a box and a permutation for a group; None where it stays as it is."""
    mixed, cut = rng.random(2)
    partners = tuple(int(i) for i in rng.permutation(clips))
    if mixed >= config.probability:
        return None
    if cut >= config.cutmix_share:
        return Mix(partners, float(rng.beta(config.mixup_alpha, config.mixup_alpha)))
    kept = float(rng.beta(config.cutmix_alpha, config.cutmix_alpha))
    box = _box(height, width, math.sqrt(1 - kept), rng)
    top, bottom, left, right = box
    return Mix(partners, 1 - (bottom - top) * (right - left) / (height * width), box)


def _box(
    height: int, width: int, side: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a box around a uniform centre, cut off at the borders of the picture."""
    across, down = int(rng.integers(width)), int(rng.integers(height))
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    return (
        max(down - half_height, 0),
        min(down + half_height, height),
        max(across - half_width, 0),
        min(across + half_width, width),
    )


def mix(frames: Tensor, targets: Tensor, mixes: list[Mix | None]) -> tuple[Tensor, Tensor]:
    """Mix frames (B,T,3,H,W) and targets (B,K) group by group; equal groups, in order."""
    if all(m is None for m in mixes):
        return frames, targets
    size = len(frames) // len(mixes)
    pairs = zip(frames.split(size), targets.split(size), mixes, strict=True)
    mixed = [_mix_group(f, t, m) for f, t, m in pairs]
    return torch.cat([f for f, _ in mixed]), torch.cat([t for _, t in mixed])


def _mix_group(frames: Tensor, targets: Tensor, m: Mix | None) -> tuple[Tensor, Tensor]:
    if m is None:
        return frames, targets
    partners = torch.tensor(m.partners).to(frames.device, non_blocking=True)
    targets = m.kept * targets + (1 - m.kept) * targets[partners]
    if m.box is None:
        return m.kept * frames + (1 - m.kept) * frames[partners], targets
    top, bottom, left, right = m.box
    frames = frames.clone()
    frames[..., top:bottom, left:right] = frames[partners][..., top:bottom, left:right]
    return frames, targets
