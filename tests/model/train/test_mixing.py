"""Mixup and CutMix, held to the published distributions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from model.train.config import MixingConfig
from model.train.mixing import Mix, draw_mix, mix

DRAWS = 6000
PUBLISHED = MixingConfig()


def drawn(config: MixingConfig = PUBLISHED, clips: int = 4, side: int = 224) -> list[Mix]:
    rng = np.random.default_rng(0)
    found = [draw_mix(clips, side, side, config, rng) for _ in range(DRAWS)]
    return [m for m in found if m is not None]


def moments(a: float) -> tuple[float, float]:
    """Mean and variance of Beta(a, a)."""
    return 0.5, 1 / (4 * (2 * a + 1))


def test_a_group_is_always_mixed_half_of_the_time_by_cutmix() -> None:
    found = drawn()
    assert len(found) == DRAWS
    cut = sum(m.box is not None for m in found)
    assert abs(cut - DRAWS / 2) < 4 * (DRAWS / 4) ** 0.5


def test_a_lower_probability_leaves_groups_alone() -> None:
    assert abs(len(drawn(MixingConfig(probability=0.3))) / DRAWS - 0.3) < 0.03
    assert drawn(MixingConfig(probability=0)) == []


def test_the_share_of_mixup_is_beta_0_8() -> None:
    shares = np.array([m.kept for m in drawn(MixingConfig(cutmix_share=0))])
    mean, variance = moments(0.8)
    assert shares.mean() == pytest.approx(mean, abs=0.02)
    assert shares.var() == pytest.approx(variance, rel=0.05)


def test_the_box_of_cutmix_has_the_drawn_share_and_a_uniform_centre() -> None:
    """Away from the borders the area is the share that a uniform draw gives up."""
    found = drawn(MixingConfig(cutmix_share=1))
    for m in found:
        assert m.box is not None
        top, bottom, left, right = m.box
        assert 0 <= top <= bottom <= 224
        assert 0 <= left <= right <= 224
        assert m.kept == pytest.approx(1 - (bottom - top) * (right - left) / 224**2)
    whole = [b for m in found if (b := m.box) and min(b[0], b[2]) > 0 and max(b[1], b[3]) < 224]
    assert whole
    assert all(abs((b[1] - b[0]) - (b[3] - b[2])) == 0 for b in whole)
    centres = np.array([(b[0] + b[1]) / 2 for m in found if (b := m.box)])
    # clipping pulls boxes towards the middle but favours neither side
    assert centres.mean() == pytest.approx(112, abs=3)
    # E[kept] of the published rule, from a simulation of its own
    rng = np.random.default_rng(1)
    kept = []
    for _ in range(DRAWS):
        half = int(224 * np.sqrt(1 - rng.beta(1, 1))) // 2
        y, x = rng.integers(224, size=2)
        rows = min(y + half, 224) - max(y - half, 0)
        kept.append(1 - rows * (min(x + half, 224) - max(x - half, 0)) / 224**2)
    assert np.mean([m.kept for m in found]) == pytest.approx(np.mean(kept), abs=0.015)


def test_partners_are_permutations_each_equally_often() -> None:
    counts = Counter(m.partners for m in drawn(clips=3))
    assert len(counts) == 6
    assert all(abs(n - DRAWS / 6) < 4 * (DRAWS / 6) ** 0.5 for n in counts.values())


def test_mixup_mixes_frames_and_targets_alike_over_all_frames() -> None:
    frames, targets = torch.randn(2, 3, 3, 8, 8), torch.tensor([[1.0, 0], [0, 1]])
    out, soft = mix(frames, targets, [Mix((1, 0), 0.75)])
    assert torch.allclose(out[0], 0.75 * frames[0] + 0.25 * frames[1])
    assert torch.allclose(soft, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


def test_cutmix_takes_the_same_box_from_every_frame_of_the_partner() -> None:
    frames, targets = torch.randn(2, 3, 3, 8, 8), torch.tensor([[1.0, 0], [0, 1]])
    out, soft = mix(frames, targets, [Mix((1, 0), 1 - 8 / 64, (2, 4, 1, 5))])
    assert torch.equal(out[0, :, :, 2:4, 1:5], frames[1, :, :, 2:4, 1:5])
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:4, 1:5] = False
    assert torch.equal(out[..., outside], frames[..., outside])
    assert torch.allclose(soft[0], torch.tensor([0.875, 0.125]))


def test_groups_are_mixed_each_with_itself() -> None:
    frames = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 1, 3, 2, 2)
    out, _ = mix(frames, torch.eye(4), [Mix((1, 0), 0.0), None])
    assert out[:, 0, 0, 0, 0].tolist() == [1, 0, 2, 3]


def test_a_clip_alone_mixes_with_itself() -> None:
    frames = torch.randn(1, 2, 3, 4, 4)
    out, soft = mix(frames, torch.tensor([[1.0, 0]]), [Mix((0,), 0.3)])
    assert torch.allclose(out, frames)
    assert torch.allclose(soft, torch.tensor([[1.0, 0]]))
