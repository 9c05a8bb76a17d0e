"""Labels with unequally many clips, and memory that does not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.train.errors import TrainError
from model.train.loop import train
from model.train.objective import Comparison
from model.train.record import read_metrics
from tests.model.clip_sets import tiny_config, write_table

CHANGES: dict[str, Any] = {"data__val": [], "schedule__epochs": 1}


def losses(clips: Path, run: Path, **changes: Any) -> list[float]:
    train(tiny_config(clips, run, **{**CHANGES, **changes}))
    return [line["loss"] for line in read_metrics(run / "metrics.jsonl")]


@pytest.fixture
def unequal(tmp_path: Path) -> list[str]:
    rows = [(f"red clip {i}.mp4", "red clip") for i in range(6)]
    rows += [("blue clip 0.mp4", "blue clip"), ("dark clip 0.mp4", "dark clip")]
    return [str(write_table(tmp_path / "unequal.csv", rows))]


def test_weights_of_the_loss_make_labels_count_alike(
    clip_set: Path, tmp_path: Path, unequal: list[str]
) -> None:
    changes = {"data__train": unequal, "loss__smoothing": 0, "augment": {"jitter": 0, "grey": 0}}
    whole = losses(clip_set, tmp_path / "a", **changes)[0]
    weighted = losses(clip_set, tmp_path / "b", data__balance="loss", **changes)[0]
    assert weighted != whole
    # Equal weights give the same loss again.
    equal = {**changes, "data__train": [str(clip_set / "train.csv")], "augment": {"jitter": 0}}
    assert losses(clip_set, tmp_path / "c", data__balance="loss", **equal) == pytest.approx(
        losses(clip_set, tmp_path / "d", **equal), rel=1e-6
    )


def test_where_memory_does_not_suffice_fewer_clips_go_at_a_time(
    clip_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"mixing__probability": 1, "mixing__group": 2}
    expected = losses(clip_set, tmp_path / "whole", **changes)
    forward, sizes = Comparison.forward, []

    def limited(self: Comparison, frames: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        sizes.append(len(frames))
        # The second update first meets it.
        if len(frames) > 2 and len(sizes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return forward(self, frames, text)

    monkeypatch.setattr(Comparison, "forward", limited)
    found = losses(clip_set, tmp_path / "run", **changes)
    assert sizes == [8, 8, 4, *[2] * 8]
    assert found == pytest.approx(expected, rel=1e-5)
    said = capsys.readouterr().err
    assert "does not suffice for 8 clips at a time: going on with 4, 8 for an update" in said
    assert "does not suffice for 4 clips at a time: going on with 2" in said


def test_where_one_clip_is_too_much_it_says_so(
    clip_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B")

    monkeypatch.setattr(Comparison, "forward", never)
    with pytest.raises(TrainError, match="does not suffice for 1 clips at a time"):
        losses(clip_set, tmp_path / "run")
