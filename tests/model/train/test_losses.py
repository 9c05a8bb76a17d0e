"""Soft targets and their cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.train.losses import cross_entropy, smooth


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(labels, classes).bool()


def test_published_smoothing_for_400_labels() -> None:
    targets = smooth(one_hot(torch.tensor([3]), 400), 0.1)[0]
    assert targets[3] == pytest.approx(0.9 + 0.1 / 400)
    assert targets[4] == pytest.approx(0.1 / 400)
    assert targets.sum() == pytest.approx(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs_smoothed_cross_entropy_on_hard_labels(smoothing: float) -> None:
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 2, 2, 1])
    ours = cross_entropy(logits, smooth(one_hot(labels, 7), smoothing))
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    assert torch.allclose(ours, theirs.float(), atol=1e-6)


def test_all_that_is_right_shares_equally() -> None:
    truth = torch.tensor([[True, True, False], [False, False, True]])
    assert torch.allclose(smooth(truth, 0.0), torch.tensor([[0.5, 0.5, 0], [0, 0, 1]]))
    assert torch.allclose(smooth(truth, 0.3)[0], torch.tensor([0.45, 0.45, 0.1]))


def test_half_precision_logits_are_compared_in_single() -> None:
    logits = torch.tensor([[80.0, 79.9375]], dtype=torch.bfloat16)
    assert cross_entropy(logits, torch.tensor([[0.0, 1.0]])).dtype == torch.float32
