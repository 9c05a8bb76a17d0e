"""Vectors of a stored label list: each label's own, whatever stands beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from export.build import embed_labels
from model.checkpoint import Checkpoint
from model.data.lists.labels import LabelList


def test_labels_of_all_lengths_keep_their_places_and_cost_their_own(
    tiny_checkpoint: Checkpoint, monkeypatch: Any
) -> None:
    net, tokenizer = tiny_checkpoint.net, tiny_checkpoint.tokenizer
    assert tokenizer is not None
    labels = tuple(f"do {' it' * (i * 7 % 11)} {i}" for i in range(300))
    alone = {}
    with torch.inference_mode():
        for label in (labels[0], labels[5], labels[-1]):
            alone[label] = net.encode_text(torch.from_numpy(tokenizer.encode([label])))[0].numpy()
    widths: list[int] = []
    encode = net.encode_text

    def watched(ids: torch.Tensor) -> torch.Tensor:
        widths.append(ids.shape[1])
        return encode(ids)

    monkeypatch.setattr(net, "encode_text", watched)
    stored = embed_labels(net, tokenizer, LabelList(labels))
    assert stored.labels == labels
    for label, vector in alone.items():
        np.testing.assert_allclose(stored.vectors[labels.index(label)], vector, atol=1e-5)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
