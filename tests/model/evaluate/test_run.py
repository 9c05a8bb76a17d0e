"""Every clip is scored once, view by view, whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.data.config import DataConfig
from model.data.errors import DataError
from model.data.lists.cliplist import ClipList, read_clips
from model.evaluate.run import Views, evaluate
from model.evaluate.scorer import TorchScorer
from model.inputs import Tokenizer, decode_clip
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.processes import Processes
from tests.model.clip_sets import write_table

INLINE = DataConfig(workers=0)


@pytest.fixture(scope="module")
def scorer() -> TorchScorer:
    tokenizer = Tokenizer.truncated(300)
    config = ModelConfig(
        image_size=48, patch_size=16, num_frames=4, vision_width=64, vision_layers=1,
        embed_dim=64, text_width=64, text_layers=1, vocab_size=tokenizer.vocab_size,
        context_length=32,
    )  # fmt: skip
    return TorchScorer(build_xclip(config, seed=0).eval(), tokenizer)


@pytest.fixture
def val(clip_set: Path) -> ClipList:
    return read_clips([clip_set / "val.csv"], clip_set / "clips")


def by_hand(scorer: TorchScorer, clips: ClipList, views: int, crops: int) -> np.ndarray:
    """Clip by clip, straight through the network: mean of the softmax over the views."""
    spec, rows = scorer.inputs, []
    ids = torch.from_numpy(scorer.tokenizer.encode(clips.labels.names))
    for sample in clips.samples:
        with clips.files.open(sample.name) as stream:
            frames = decode_clip(stream, spec, views=views, crops=crops).frames
        pixels = (torch.from_numpy(frames).float() - torch.tensor(spec.mean)) / torch.tensor(
            spec.std
        )
        with torch.no_grad():
            logits = scorer.net(pixels.permute(0, 1, 4, 2, 3), ids)
        rows.append(logits.softmax(dim=1).mean(dim=0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("views", "crops"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_scores_are_those_of_the_network_whatever_the_batch(
    scorer: TorchScorer, val: ClipList, views: int, crops: int, batch: int
) -> None:
    found = evaluate(scorer, val, Views(views, crops, batch), INLINE)
    assert found.indices.tolist() == list(range(8))
    assert found.truth.tolist() == [sample.label for sample in val.samples]
    np.testing.assert_allclose(found.scores, by_hand(scorer, val, views, crops), atol=1e-6)


def test_the_same_again_gives_the_same_and_leaves_random_state_alone(
    scorer: TorchScorer, val: ClipList
) -> None:
    before = torch.random.get_rng_state()
    one = evaluate(scorer, val, Views(4, 3), INLINE)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert (evaluate(scorer, val, Views(4, 3), INLINE).scores == one.scores).all()


def test_workers_change_nothing(scorer: TorchScorer, val: ClipList) -> None:
    one = evaluate(scorer, val, Views(), INLINE)
    assert (evaluate(scorer, val, Views(), DataConfig(workers=2)).scores == one.scores).all()


class Recorded(Processes):
    """A process among several whose exchange is written down, to be put together by hand."""

    parts: list[Any] = []  # noqa: RUF012

    def collected(self, value: Any) -> list[Any]:
        self.parts.append(value)
        return [value]


@pytest.mark.parametrize("count", [2, 3, 16])
def test_processes_share_a_list_without_gaps_or_doubles(
    scorer: TorchScorer, val: ClipList, count: int
) -> None:
    Recorded.parts.clear()
    seen = [0] * count
    for rank in range(count):

        def count_clip(rank: int = rank) -> None:
            seen[rank] += 1

        processes = Recorded(rank, count, torch.device("cpu"))
        evaluate(scorer, val, Views(), INLINE, processes, count_clip)
    indices = np.concatenate([part.indices for part in Recorded.parts])
    assert sorted(indices.tolist()) == list(range(8))
    assert sum(seen) == 8
    whole = evaluate(scorer, val, Views(), INLINE)
    for part in Recorded.parts:
        np.testing.assert_allclose(part.scores, whole.scores[part.indices], atol=1e-6)


def test_broken_clips_are_named_and_too_many_stop(
    scorer: TorchScorer, clip_set: Path, tmp_path: Path
) -> None:
    rows = [
        ("red clip 6.mp4", "red clip"),
        ("none.mp4", "red clip"),
        ("blue clip 6.mp4", "blue clip"),
    ]
    clips = read_clips([write_table(tmp_path / "v.csv", rows)], clip_set / "clips")
    found = evaluate(scorer, clips, Views(), DataConfig(workers=0, max_broken_share=0.5))
    assert found.indices.tolist() == [0, 2]
    assert [(b.name, b.reason) for b in found.broken] == [("none.mp4", "missing")]
    with pytest.raises(DataError, match=r"1 of 3 clips cannot be used.*none\.mp4 \(missing\)"):
        evaluate(scorer, clips, Views(), INLINE)


def test_the_template_surrounds_the_label(scorer: TorchScorer, val: ClipList) -> None:
    plain = evaluate(scorer, val, Views(), INLINE)
    prompted = TorchScorer(scorer.net, scorer.tokenizer, templates=["a video of {}"])
    other = evaluate(prompted, val, Views(), INLINE)
    renamed = ClipList(
        val.samples,
        type(val.labels)(tuple(f"a video of {name}" for name in val.labels.names)),
        val.wordings,
        val.files,
    )
    assert not np.allclose(plain.scores, other.scores)
    assert (other.scores == evaluate(scorer, renamed, Views(), INLINE).scores).all()
